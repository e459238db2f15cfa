"""The preset `paper`: error against compute in the numbers that Dosovitskiy et al. 2021 published.

Nothing is trained. published.csv holds tables 5 and 6 of arXiv 2010.11929v2, top-1 in percent after fine-tuning. Each
number is of one model, trained once, so nothing here tells how much it would change with another seed.

    compute   Table 6: 7 ResNets, 6 ViTs and 5 hybrids, pre-trained on JFT-300M. A power law a C^-c of the error over the
              compute C is fitted to each family. The ratio of two families is the compute of the one over that of the
              other where their curves have the same error, as the geometric mean over the errors that models of both
              reach. Its interval comes from a bootstrap over models (`jaxvision.analysis.equal_error`): it tells how
              much the ratio depends on which models of a family were trained.
    average   The paper averages five data sets and does not name them in sec. 4.4. Its table 7 averages ImageNet,
              CIFAR-10, CIFAR-100, Pets and Flowers; so does this study. ImageNet ReaL is reported too.
    data      Table 5: for each data set the log of the error of ViT-B over that of ViT-L, mean over patches of 32 and 16.
              Intervals are t-intervals over the five data sets: they tell whether the sets agree.

Criteria, fixed before any ratio was computed, though the numbers were known; intervals are 95 %:
    less          sec. 4.4: on the average, the ratio of ResNets to ViTs has an interval above 1
    two_to_four   sec. 4.4: this interval is within 2 to 4; whether it overlaps 2 to 4 is reported
    hybrid_less   sec. 4.4: at the largest error that both reach, the ratio of ViTs to hybrids has an interval above 1
    hybrid_fades  sec. 4.4: this ratio over the ratio at the smallest error that both reach has an interval above 1
    small_data    sec. 4.3: pre-trained on ImageNet, the log of the error of ViT-B over ViT-L has an interval below 0
    large_data    sec. 4.3: pre-trained on JFT-300M, it has an interval above 0
    overtakes     sec. 4.3: from ImageNet to JFT-300M it rises, with an interval above 0
"""
