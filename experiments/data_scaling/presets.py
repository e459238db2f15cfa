"""The presets of the study by name; the first is the default."""

from jaxvision.commands.study import sibling

setting = sibling(__file__, "setting")
Pair, Preset = setting.Pair, setting.Preset
PRESETS = {
    **sibling(__file__, "small").PRESETS,
    **sibling(__file__, "large").PRESETS,
    "relations": sibling(__file__, "relations").PRESET,
}
