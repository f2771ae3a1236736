"""From a recipe and a text to a trained model.

Read first: loop.py (`fit` and `train_epoch`), then session.py (`train`: a recipe and a text to a model and its folder).

    setup.py          a recipe's device, feeds, optimiser and callbacks
    trainer.py        all of these for one training, and its evaluation
    callbacks/        additions to the loop
    schedules.py      learning rate over the training
    timer.py          seconds and time limit
    counting.py       the training of n-gram models, without the loop
    resume.py         everything a bit-exact resume needs
    run_folder.py     the folder of a run; result.py: cost and final losses; summary.py: both as text
    text_defaults.py  defaults by the size of the text
    distributed.py    work shared by several processes; launch.py connects them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
