"""What ``conftest.import_torchvision`` does, for programs that tests start where torchvision lacks its compiled part.

torchvision's import looks for two operators, which are nowhere called.
"""

import sys


class _Operators:
    """Declares the operators just before torchvision is imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision" and not hasattr(_Operators, "library"):
            import torch

            _Operators.library = torch.library.Library("torchvision", "DEF")
            _Operators.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _Operators.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _Operators)
