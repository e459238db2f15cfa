"""Pure functions from arrays to losses.

classification.py   softmax and sigmoid cross entropy with soft or smoothed labels
pairs.py            each row of a batch against all others, in little memory and over several devices
contrastive.py      NT-Xent and the supervised contrastive loss
image_text.py       images and their texts: softmax (CLIP) and pairwise sigmoid (SigLIP)
ring.py             each row against all others that never are on one device: they go round
representation.py   alignment, uniformity, deviation and effective rank of embeddings: watched, not trained on
"""
