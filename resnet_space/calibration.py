"""How sure a model may be: `python -m resnet_space.calibration RUN_DIR` fits it anew, as the end of a training does.

Two things are fitted on the validation images, which the weights were not trained with:

- a temperature (Guo et al. 2017, arXiv:1706.04599): logits are divided by it before the softmax, so that of the pictures
  of which the model is 80 % sure about 80 % are right;
- a limit for what is unusual: 95 % of the validation images lie within it.

Both are kept in `config.json`, as a part of the model.
"""
