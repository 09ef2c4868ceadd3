from torch import Tensor

import gradloom


class Half(gradloom.Injector, type="half"):
    in_: gradloom.Read
    out: gradloom.Write

    def forward(self, value: Tensor) -> Tensor:
        return value / 2
