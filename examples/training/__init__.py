"""What examples/train.py is made of, for programs of your own: nothing here reads a command line.

from training import Options, evaluate, fit, model

network = model("r3d_18", num_classes=len(train.classes), num_frames=16, size=112)
history = fit(network, loader, validation_loader, Options(epochs=10, lr=1e-3))
print(history.best, evaluate(network, validation_loader))
"""

from training.evaluation import Evaluation, evaluate
from training.fitting import History, fit
from training.models import MODELS, model
from training.options import MONITORS, Options
from training.weights import load_weights

__all__ = ["MODELS", "MONITORS", "Evaluation", "History", "Options", "evaluate", "fit", "load_weights", "model"]
