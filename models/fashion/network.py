"""The bundled classifier's network: every way in which batch norm meets a convolution, in 13 M
multiply-adds an image."""

from torch import nn


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless relu is False, ReLU; 'same' padding."""

    def __init__(self, c_in, c_out, kernel, stride=1, groups=1, relu=True):
        super().__init__()
        self.add_module("conv", nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups,
                                          bias=False))
        self.add_module("norm", nn.BatchNorm2d(c_out))
        if relu:
            self.add_module("relu", nn.ReLU())


class Residual(nn.Module):
    """Two 3x3 convolutions beside a projected shortcut; ReLU after the sum."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.first = ConvNorm(c_in, c_out, 3)
        self.second = ConvNorm(c_out, c_out, 3, relu=False)
        self.shortcut = ConvNorm(c_in, c_out, 1, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.first(x)) + self.shortcut(x))


class PreActivation(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; the shortcut stays untouched, so
    the first batch norm has no convolution of its own to fold into."""

    def __init__(self, channels):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(self.relu1(self.norm1(x)))
        return x + self.conv2(self.relu2(self.norm2(y)))


class Depthwise(nn.Module):
    """Inverted bottleneck: 1x1 out to `inner` channels, 3x3 on each channel, 1x1 back. It has a
    shortcut where input and output have the same shape."""

    def __init__(self, c_in, inner, c_out, stride=1):
        super().__init__()
        self.expand = ConvNorm(c_in, inner, 1)
        self.depthwise = ConvNorm(inner, inner, 3, stride, groups=inner)
        self.project = ConvNorm(inner, c_out, 1, relu=False)
        self.has_shortcut = stride == 1 and c_in == c_out

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class FashionNet(nn.Module):
    """Image [n, 1, 28, 28] to logits [n, 10]."""

    def __init__(self):
        super().__init__()
        self.stem = ConvNorm(1, 32, 3)
        self.pool = nn.MaxPool2d(2)  # 28 -> 14: nearly all the work is behind this line
        self.residual = Residual(32, 48)
        self.down = Depthwise(48, 96, 64, stride=2)  # 14 -> 7
        self.preact = PreActivation(64)
        self.depthwise = Depthwise(64, 128, 64)
        self.norm = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classify = nn.Linear(64, 10)

    def forward(self, x):
        x = self.residual(self.pool(self.stem(x)))
        x = self.depthwise(self.preact(self.down(x)))
        return self.classify(self.flatten(self.average(self.relu(self.norm(x)))))
