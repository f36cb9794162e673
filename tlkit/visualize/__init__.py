"""Pictures of what a network has learned: first-layer filters, deconvnet projections, Grad-CAM, guided backprop.

filters.py      the filters of the first layer, and which are dead
deconvnet.py    projections of single activations back to the image; search.py finds the images, receptive.py crops them
attribution.py  Grad-CAM and guided backprop; evidence.py runs them over predictions
rectified.py    how ReLUs pass signals back in deconvnet and guided backprop
pages.py        arrays to figures
command.py      `tlkit visualize`

Import from these modules: most of them need torch, and the command line does not wait for it.
"""
