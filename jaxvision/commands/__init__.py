"""The commands of the command line; each is a function that Python code can call, too.

train.py      train a config in a workdir
              shown.py: what it prints and keeps; new.py: configs made from images, or copied, as files
evaluate.py   evaluate a checkpoint again, or converted weights
inspect.py    build everything that a config names and show it, without training; plans.py: on devices that are not here
verify.py     check whether a run is complete and undamaged; verify_metrics.py: its metrics
predict.py    classify image files; photos.py: models applied to image files; classifying.py: classes in words
explain.py    a page of what a network sees; explain_pictures.py: its pictures; mask_files.py: masks of a user's images
search.py     find images by words or by an image
visualize.py  a page of pictures of what a network learned; pictures.py: each picture
plot.py       a page of curves and tables of runs; run_page.py and runs_page.py: its words; run_panels.py: its curves;
              run_records.py: what is known of a run; run_groups.py: several runs; class_page.py: what a classifier
              gets wrong
convert.py    convert weights of other libraries; hub_folder.py: ours to a folder that timm opens
export.py     a model as a file that runs without jaxvision: StableHLO; export_onnx.py: ONNX
data.py       prepare, convert or cache a data set
study.py      run the study of an experiment
sweep.py      search over configs
launch.py     submit a command to a cluster
listing.py    list what a config may name; catalog.py: all names, found in the source
help.py       show everything of a name; describe.py: parts and files; config_keys.py: the keys of a config
"""
