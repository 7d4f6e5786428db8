"""RAFT, small and large: recurrent all-pairs field transforms for optical flow (Teed and Deng, arXiv 2003.12039).

Conventions: images are (B, 3, H, W) in [-1, 1] with H and W multiples of 8; features live on a grid of h = H/8, w = W/8
cells. Low-resolution flow is (B, 2, h, w), (x, y) in cells; full-resolution flow is (B, 2, H, W) in pixels.
Modules carry the reference implementation's names, so that its weights load by key.
"""


import torch
import torch.nn.functional as F
from torch import nn

from networks.correlation import LEVELS, make_correlation

STRIDE = 8  # pixels per feature cell
MIN_SIDE = STRIDE * 2 ** (LEVELS - 1)  # pixels: the coarsest level must hold a cell


class RAFT(nn.Module):
    """Features of both images -> correlation pyramid -> flow refined by a recurrent update.

    Images are encoded apart from pairs (`features`, `context`), so that a video's frames are encoded once.
    """

    def __init__(self, small):
        super().__init__()
        self.small = small
        self.radius = 3 if small else 4
        self.hidden_channels = 96 if small else 128
        if small:
            self.fnet = Encoder((32, 32, 64, 96, 128), BottleneckBlock, nn.InstanceNorm2d)
            self.cnet = Encoder((32, 32, 64, 96, 96 + 64), BottleneckBlock, nn.Identity)
            self.update_block = SmallUpdate(corr_channels=LEVELS * (2 * self.radius + 1) ** 2)
        else:
            self.fnet = Encoder((64, 64, 96, 128, 256), ResidualBlock, nn.InstanceNorm2d)
            self.cnet = Encoder((64, 64, 96, 128, 128 + 128), ResidualBlock, nn.BatchNorm2d)
            self.update_block = LargeUpdate(corr_channels=LEVELS * (2 * self.radius + 1) ** 2)

    def features(self, images):
        """(B, 3, H, W) -> (B, C, h, w): what is matched."""
        return self.fnet(images)

    def context(self, images):
        """(B, 3, H, W) of the first image -> initial hidden state (B, C, h, w), context (B, C', h, w)."""
        hidden, context = self.cnet(images).split(
            [self.hidden_channels, self.cnet.out_channels - self.hidden_channels], dim=1
        )
        return torch.tanh(hidden), F.relu(context)

    def updates(self, features_1, features_2, hidden, context, iterations, flow=None, max_volume_bytes=2**30):
        """Yield (low-resolution flow (B, 2, h, w), hidden state (B, C, h, w)) after each iteration.

        flow: the initial low-resolution flow, by default zero. Gradients do not pass from iteration to iteration by it.
        """
        full_precision = torch.autocast(features_1.device.type, enabled=False)
        with full_precision:
            correlation = make_correlation(features_1.float(), features_2.float(), self.radius, max_volume_bytes)
        cells = cell_grid(features_1)  # (1, 2, h, w)
        flow = torch.zeros_like(cells).expand(len(features_1), -1, -1, -1) if flow is None else flow
        folded = self.update_block.gru.fold(context)
        for _ in range(iterations):
            flow = flow.detach()
            with full_precision:
                correlations = correlation(cells + flow)
            hidden, change = self.update_block(hidden, folded, correlations, flow)
            flow = flow + change.float()
            yield flow, hidden

    def upsample(self, flow, hidden):
        """Low-resolution flow (B, 2, h, w) and its hidden state -> (B, 2, H, W) in pixels."""
        if self.small:
            return STRIDE * F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)
        return upsample_convex(flow, self.update_block.upsampling_weights(hidden).float())

    def forward(self, images_1, images_2, iterations=12, flow=None):
        """Flow from images_1 to images_2 (B, 3, H, W) after each iteration: a list of (B, 2, H, W)."""
        features_1, features_2 = self.features(torch.cat([images_1, images_2])).chunk(2)
        hidden, context = self.context(images_1)
        updates = self.updates(features_1, features_2, hidden, context, iterations=iterations, flow=flow)
        return [self.upsample(*update) for update in updates]


def cell_grid(features):
    """(1, 2, h, w) float32 (x, y) of every cell of features (B, C, h, w)."""
    y, x = torch.meshgrid(*(torch.arange(size, device=features.device) for size in features.shape[-2:]), indexing="ij")
    return torch.stack([x, y])[None].float()


def upsample_convex(flow, weights):
    """Each fine pixel is a convex combination of the 3x3 cells around its own (paper, section 3.3).

    flow (B, 2, h, w) in cells, weights (B, 9 * 8 * 8, h, w) before the softmax -> (B, 2, 8h, 8w) in pixels.
    """
    batch, _, height, width = flow.shape
    weights = weights.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    neighbours = F.unfold(STRIDE * flow, kernel_size=3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    fine = (weights * neighbours).sum(dim=2)  # (B, 2, 8, 8, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, STRIDE * height, STRIDE * width)


# ---- encoders --------------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Images (B, 3, H, W) -> (B, channels[-1], H/8, W/8)."""

    def __init__(self, channels, block, norm):
        super().__init__()
        stem, *stages, self.out_channels = channels
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3)
        self.norm1 = norm(stem)
        self.layer1 = self.stage(stem, stages[0], block, norm, stride=1)
        self.layer2 = self.stage(stages[0], stages[1], block, norm, stride=2)
        self.layer3 = self.stage(stages[1], stages[2], block, norm, stride=2)
        self.conv2 = nn.Conv2d(stages[2], self.out_channels, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def stage(in_channels, out_channels, block, norm, stride):
        """Two blocks, the first one with the stride."""
        return nn.Sequential(block(in_channels, out_channels, norm, stride), block(out_channels, out_channels, norm, 1))

    def forward(self, images):
        x = F.relu(self.norm1(self.conv1(images)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


def projection(in_channels, out_channels, norm, stride):
    """What brings a block's input to the size of its output."""
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride), norm(out_channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (with a ReLU before the sum too, as published)."""

    def __init__(self, in_channels, out_channels, norm, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm1, self.norm2 = norm(out_channels), norm(out_channels)
        self.downsample = projection(in_channels, out_channels, norm, stride)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.downsample(x) + y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3, 1x1 convolutions through a quarter of the channels, beside a shortcut."""

    def __init__(self, in_channels, out_channels, norm, stride):
        super().__init__()
        narrow = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, narrow, kernel_size=1)
        self.conv2 = nn.Conv2d(narrow, narrow, kernel_size=3, stride=stride, padding=1)
        self.conv3 = nn.Conv2d(narrow, out_channels, kernel_size=1)
        self.norm1, self.norm2, self.norm3 = norm(narrow), norm(narrow), norm(out_channels)
        self.downsample = projection(in_channels, out_channels, norm, stride)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = F.relu(self.norm3(self.conv3(y)))
        return F.relu(self.downsample(x) + y)


# ---- recurrent update ------------------------------------------------------------------------------------------------


class SmallUpdate(nn.Module):
    """hidden (B, 96, h, w), folded context, correlations, flow -> new hidden, change of flow (B, 2, h, w)."""

    def __init__(self, corr_channels):
        super().__init__()
        self.encoder = SmallMotionEncoder(corr_channels)
        self.gru = ConvGRU(hidden=96, inputs=64 + 82)
        self.flow_head = FlowHead(96, 128)

    def forward(self, hidden, folded, correlations, flow):
        hidden = self.gru(hidden, self.encoder(flow, correlations), folded)
        return hidden, self.flow_head(hidden)


class LargeUpdate(nn.Module):
    """hidden (B, 128, h, w), folded context, correlations, flow -> new hidden, change of flow (B, 2, h, w)."""

    def __init__(self, corr_channels):
        super().__init__()
        self.encoder = LargeMotionEncoder(corr_channels)
        self.gru = SeparableGRU(hidden=128, inputs=128 + 128)
        self.flow_head = FlowHead(128, 256)
        self.mask = nn.Sequential(
            nn.Conv2d(128, 256, kernel_size=3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * STRIDE**2, kernel_size=1)
        )

    def forward(self, hidden, folded, correlations, flow):
        hidden = self.gru(hidden, self.encoder(flow, correlations), folded)
        return hidden, self.flow_head(hidden)

    def upsampling_weights(self, hidden):
        """(B, 128, h, w) -> (B, 9 * 8 * 8, h, w) before the softmax; a quarter, to balance gradients, as published."""
        return 0.25 * self.mask(hidden)


class SmallMotionEncoder(nn.Module):
    """Flow (B, 2, h, w) and correlations -> (B, 82, h, w), the flow itself last."""

    def __init__(self, corr_channels):
        super().__init__()
        self.convc1 = nn.Conv2d(corr_channels, 96, kernel_size=1)
        self.convf1 = nn.Conv2d(2, 64, kernel_size=7, padding=3)
        self.convf2 = nn.Conv2d(64, 32, kernel_size=3, padding=1)
        self.conv = nn.Conv2d(96 + 32, 80, kernel_size=3, padding=1)

    def forward(self, flow, correlations):
        from_correlations = F.relu(self.convc1(correlations))
        from_flow = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([from_correlations, from_flow], dim=1))), flow], dim=1)


class LargeMotionEncoder(nn.Module):
    """Flow (B, 2, h, w) and correlations -> (B, 128, h, w), the flow itself last."""

    def __init__(self, corr_channels):
        super().__init__()
        self.convc1 = nn.Conv2d(corr_channels, 256, kernel_size=1)
        self.convc2 = nn.Conv2d(256, 192, kernel_size=3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, kernel_size=7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, kernel_size=3, padding=1)
        self.conv = nn.Conv2d(192 + 64, 126, kernel_size=3, padding=1)

    def forward(self, flow, correlations):
        from_correlations = F.relu(self.convc2(F.relu(self.convc1(correlations))))
        from_flow = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([from_correlations, from_flow], dim=1))), flow], dim=1)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose gates are convolutions of (hidden, context, motion)."""

    def __init__(self, hidden, inputs):
        super().__init__()
        for gate in "zrq":
            self.add_module(f"conv{gate}", nn.Conv2d(hidden + inputs, hidden, kernel_size=3, padding=1))

    def fold(self, context):
        """What of the gates does not change over the iterations."""
        return fold_gates((self.convz, self.convr, self.convq), context)

    def forward(self, hidden, motion, folded):
        return gru_step(hidden, motion, folded)


class SeparableGRU(nn.Module):
    """Two gated recurrent units in turn: gates along rows, then along columns."""

    def __init__(self, hidden, inputs):
        super().__init__()
        for axis, kernel, padding in (("1", (1, 5), (0, 2)), ("2", (5, 1), (2, 0))):
            for gate in "zrq":
                self.add_module(f"conv{gate}{axis}", nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding))

    def fold(self, context):
        """What of the gates does not change over the iterations, of both units."""
        rows, columns = (self.convz1, self.convr1, self.convq1), (self.convz2, self.convr2, self.convq2)
        return fold_gates(rows, context), fold_gates(columns, context)

    def forward(self, hidden, motion, folded):
        for unit in folded:
            hidden = gru_step(hidden, motion, unit)
        return hidden


def fold_gates(gates, context):
    """Split three convolutions of (hidden, context, motion) into their constant and their changing part.

    gates: update, reset and candidate convolution -> for each (the context's share of the output (B, C, h, w), weight
    for (hidden, motion), padding). Saves a quarter of the recurrent work: the context is the same in every iteration.
    """
    first = gates[0].out_channels  # the hidden state comes first
    last = first + context.shape[1]
    return [
        (
            F.conv2d(context, gate.weight[:, first:last], gate.bias, padding=gate.padding),
            torch.cat([gate.weight[:, :first], gate.weight[:, last:]], dim=1),
            gate.padding,
        )
        for gate in gates
    ]


def gru_step(hidden, motion, folded):
    """hidden (B, C, h, w), motion features (B, C', h, w) -> new hidden."""
    (z_constant, z_weight, padding), (r_constant, r_weight, _), (q_constant, q_weight, _) = folded
    both = torch.cat([hidden, motion], dim=1)
    z = torch.sigmoid(z_constant + F.conv2d(both, z_weight, padding=padding))
    r = torch.sigmoid(r_constant + F.conv2d(both, r_weight, padding=padding))
    q = torch.tanh(q_constant + F.conv2d(torch.cat([r * hidden, motion], dim=1), q_weight, padding=padding))
    return (1 - z) * hidden + z * q


class FlowHead(nn.Module):
    """Hidden state (B, C, h, w) -> change of flow (B, 2, h, w), in cells."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, 2, kernel_size=3, padding=1)

    def forward(self, hidden):
        return self.conv2(F.relu(self.conv1(hidden)))
