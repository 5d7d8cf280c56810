"""Random functional graphs that know, by their own bookkeeping, which channels belong together.

The bookkeeping is the oracle's: plain lists of channel ids and a dictionary of ties, kept while the
graph is built, and no part of tfeffi. `masked` zeroes the weights that read a dropped channel.
"""

import dataclasses

import keras
import numpy as np
from keras import layers


@dataclasses.dataclass
class Read:
    """A weight axis that sums over channels: the id of the channel at each place of it."""

    layer: str
    weight: str
    axis: int
    ids: list[int]


class Drawn:
    """Builds a graph step by step from (operation, a, b) codes."""

    def __init__(self, codes, *, seed=0, size=6, dense_head=True):
        self.parent: dict[int, int] = {}
        self.reads: list[Read] = []
        self.writes: dict[str, list[int]] = {}
        self.parts: list[list[int]] = []  # channels that are taken out together: one must stay
        self.pinned: set[int] = set()
        self.count = 0
        inputs = keras.Input((size, size, 3), name="image")
        self.x, self.ids = inputs, [-1] * 3
        self.conv(4 + codes[0][1] % 3, 3)
        self.kept, self.outputs = [(self.x, self.ids)], []
        for code, a, b in codes:
            STEPS[code % len(STEPS)](self, a, b)
            self.kept.append((self.x, self.ids))
        self.head(dense_head)
        self.model = keras.Model(inputs, [self.x, *self.outputs] if self.outputs else self.x)
        randomize(self.model, seed)

    # -- bookkeeping ------------------------------------------------------------------------------
    def root(self, i):
        while self.parent.get(i, i) != i:
            i = self.parent[i]
        return i

    def tie(self, first, second):
        for a, b in zip(first, second, strict=True):
            a, b = self.root(a), self.root(b)
            if a != b:
                self.parent[max(a, b)] = min(a, b)  # the input's -1 is everybody's root

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def made(self, name, count):
        start = 1000 * self.count
        self.writes[name] = list(range(start, start + count))
        return self.writes[name]

    # -- steps ------------------------------------------------------------------------------------
    def conv(self, filters, kernel, *, stride=1, dilation=1, activation="relu", bias=True, to=None):
        x, ids = to or (self.x, self.ids)
        name = self.name("conv")
        layer = layers.Conv2D(
            filters, kernel, strides=stride, dilation_rate=dilation, padding="same",
            activation=activation, use_bias=bias, name=name,
        )  # fmt: skip
        self.reads.append(Read(name, "kernel", 2, ids))
        self.x, self.ids = layer(x), self.made(name, filters)
        return self.x, self.ids

    def conv_step(self, a, b):
        stride = 2 if a % 4 == 3 and self.x.shape[1] > 3 else 1
        dilation = 2 if stride == 1 and b % 3 == 2 else 1
        self.conv(3 + b % 4, 1 + a % 3, stride=stride, dilation=dilation)

    def conv_bn(self, a, b):
        self.conv(3 + a % 4, 3, activation=None, bias=False)
        self.x = layers.BatchNormalization(name=self.name("bn"))(self.x)
        self.x = layers.ReLU(6.0 if b % 2 else None, name=self.name("relu"))(self.x)

    def residual(self, a, b):
        start, width = (self.x, self.ids), self.x.shape[-1]
        self.conv(2 + a % 4, 3)
        end = self.conv(width, 1 + b % 3, activation=None)
        merge = (layers.Add, layers.Average, layers.Maximum, layers.Subtract)[a % 4]
        self.x = merge(name=self.name("merge"))([start[0], end[0]])
        self.tie(start[1], end[1])

    def operators(self, a, b):
        start = self.x, self.ids
        end = self.conv(self.x.shape[-1], 1, to=start)
        self.x = keras.ops.tanh(start[0] * 0.5 + end[0]) if b % 2 else end[0] * start[0]
        self.tie(start[1], end[1])

    def squeeze(self, a, b):
        x, ids = self.x, self.ids
        s = layers.GlobalAveragePooling2D(keepdims=bool(b % 2), name=self.name("gap"))(x)
        if not b % 2:
            s = layers.Reshape((1, 1, x.shape[-1]), name=self.name("reshape"))(s)
        s, inner = self.conv(2 + a % 3, 1, to=(s, ids))
        s, outer = self.conv(x.shape[-1], 1, activation="sigmoid", to=(s, inner))
        self.x, self.ids = layers.Multiply(name=self.name("se"))([x, s]), ids
        self.tie(ids, outer)

    def depthwise(self, a, b):
        multiplier = 1 + a % 2
        name = self.name("depthwise")
        self.x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier, name=name)(
            self.x
        )
        self.ids = [i for i in self.ids for _ in range(multiplier)]

    def separable(self, a, b):
        name, filters, multiplier = self.name("separable"), 3 + a % 4, 1 + b % 2
        layer = layers.SeparableConv2D(
            filters, 3, padding="same", depth_multiplier=multiplier, activation="relu", name=name
        )
        spread = [i for i in self.ids for _ in range(multiplier)]
        self.reads.append(Read(name, "pointwise_kernel", 2, spread))
        self.x, self.ids = layer(self.x), self.made(name, filters)

    def transposed(self, a, b):
        name, filters = self.name("transposed"), 3 + a % 3
        stride = 2 if self.x.shape[1] < 8 and b % 2 else 1
        layer = layers.Conv2DTranspose(filters, 3, strides=stride, padding="same", name=name)
        self.reads.append(Read(name, "kernel", 3, self.ids))
        self.x, self.ids = layer(self.x), self.made(name, filters)

    def grouped(self, a, b):
        self.conv(4, 1)
        groups, source = (2, 4)[a % 2], self.ids
        name, filters = self.name("grouped"), 4 * (1 + b % 2)
        layer = layers.Conv2D(filters, 3, padding="same", groups=groups, name=name)
        self.x = layer(self.x)
        if groups == 4:  # one channel a group: depthwise
            self.ids = [i for i in source for _ in range(filters // 4)]
            return
        self.tie(source[:2], source[2:])
        self.ids = self.made(name, filters)
        self.tie(self.ids[: filters // 2], self.ids[filters // 2 :])
        self.reads.append(Read(name, "kernel", 2, source[:2]))

    def concatenate(self, a, b):
        x, ids = self.kept[b % len(self.kept)]
        if x.shape[1] == self.x.shape[1] and x is not self.x:
            self.x = layers.Concatenate(name=self.name("concat"))([self.x, x])
            self.ids = self.ids + ids
        else:
            start = self.x, self.ids
            self.conv(2 + a % 3, 1)
            self.x = layers.Concatenate(name=self.name("concat"))([start[0], self.x])
            self.ids = start[1] + self.ids

    def plain(self, a, b):
        size = self.x.shape[1]
        self.x = [
            layers.MaxPooling2D(2, 1, padding="same", name=self.name("pool")),
            layers.ZeroPadding2D(1, name=self.name("pad")),
            layers.Dropout(0.5, name=self.name("dropout")),
            layers.PReLU(shared_axes=[1, 2] if b % 2 else None, name=self.name("prelu")),
            layers.UpSampling2D(2 if size < 5 else 1, name=self.name("up")),
            layers.Activation("gelu", name=self.name("gelu")),
        ][a % 6](self.x)

    def shared(self, a, b):
        width = self.x.shape[-1]
        name = self.name("conv")
        layer = layers.Conv2D(width, 3, padding="same", activation="tanh", name=name)
        once = layer(self.x)
        self.reads.append(Read(name, "kernel", 2, self.ids))
        ids = self.made(name, width)
        self.x = layer(once)
        self.tie(self.ids, ids)
        self.ids = ids

    def nested(self, a, b):
        name, width = self.name("nested"), self.x.shape[-1]
        inner = keras.Input((None, None, width), name=f"{name}_in")
        y = layers.Conv2D(3, 3, padding="same", activation="relu", name="inner")(inner)
        if b % 2:
            model = keras.Model(inner, layers.Add(name="join")([inner, _wide(y, width)]), name=name)
        else:
            model = keras.Model(inner, y, name=name)
        self.reads.append(Read(f"{name}/inner", "kernel", 2, self.ids))
        ids = self.made(f"{name}/inner", 3)
        if b % 2:
            self.reads.append(Read(f"{name}/wide", "kernel", 2, ids))
            self.count += 1
            ids = self.made(f"{name}/wide", width)
            self.tie(self.ids, ids)
        self.x, self.ids = model(self.x), ids

    def dense_block(self, a, b):
        for _ in range(2):
            start = self.x, self.ids
            self.conv(1 + a % 3, 1 + b % 3)
            self.x = layers.Concatenate(name=self.name("concat"))([start[0], self.x])
            self.ids = start[1] + self.ids

    def sliced(self, a, b):
        """One part goes through a convolution, the other around it."""
        width = self.x.shape[-1]
        at = 1 + a % (width - 1) if width > 1 else 0
        if not at:
            return
        if b % 3 == 0:
            first, second = keras.ops.split(self.x, [at], axis=-1)
        elif b % 3 == 1:
            first, second = self.x[..., :at], self.x[..., at - width :]
        else:
            first, second = self.x[:, :, :, at - 1 :: -1], self.x[..., at:]
        ids, rest = self.ids[:at], self.ids[at:]
        self.parts += [ids, rest]
        self.conv(2 + a % 3, 1, to=(first, ids[::-1] if b % 3 == 2 else ids))
        self.x = keras.ops.concatenate([self.x, second], axis=-1)
        self.ids = self.ids + rest

    def padded(self, a, b):
        """A residual that is widened by channels of zeros."""
        before, after = a % 2, 1 + b % 2
        start = self.ids
        padded = keras.ops.pad(self.x, [[0, 0], [0, 0], [0, 0], [before, after]])
        self.count += 1
        made = self.made("zeros", before + after)
        del self.writes["zeros"]
        ids = made[:before] + start + made[before:]
        self.writes[padded._keras_history.operation.name] = ids
        self.conv(len(ids), 1, activation="tanh")
        self.tie(ids, self.ids)
        self.x = self.x + padded

    def moved(self, a, b):
        """Axes go and come back, with something for each channel between."""
        _, height, wide, channels = self.x.shape
        if a % 3 == 0:
            x = keras.ops.reshape(self.x, (-1, height * wide, channels))
            x = keras.ops.tanh(keras.ops.swapaxes(x, 1, 2))
            x = keras.ops.transpose(x, (0, 2, 1))
            self.x = keras.ops.reshape(x, (-1, height, wide, channels))
        elif a % 3 == 1:
            x = keras.ops.squeeze(keras.ops.expand_dims(self.x, 1), 1)
            self.x = keras.ops.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]])
        else:
            mean = keras.ops.mean(self.x, axis=(1, 2), keepdims=True)
            self.x = (self.x - mean) * keras.ops.sigmoid(keras.ops.std(self.x, axis=(1, 2)))[
                :, None, None, :
            ]

    def normalized(self, a, b):
        """Group normalization: groups go as a whole."""
        width = self.x.shape[-1]
        groups = [g for g in range(1, width + 1) if width % g == 0][-1 - a % 2 :][0]
        self.x = layers.GroupNormalization(groups, name=self.name("norm"))(self.x)
        each = width // groups
        for start in range(0, width, each):
            self.tie([self.ids[start]] * each, self.ids[start : start + each])
        if groups == 1:
            self.pinned.update(self.ids)

    def nested_twice(self, a, b):
        """One nested model on two tensors."""
        width, name = self.x.shape[-1], self.name("nested")
        start = self.x, self.ids
        self.conv(width, 1)
        self.tie(start[1], self.ids)
        inner = keras.Input((None, None, width), name=f"{name}_in")
        y = layers.Conv2D(3, 1, activation="tanh", name="inner")(inner)
        y = y[..., 1:] if b % 2 else keras.ops.relu(y)
        model = keras.Model(inner, y, name=name)
        self.reads.append(Read(f"{name}/inner", "kernel", 2, self.ids))
        self.count += 1
        ids = self.made(f"{name}/inner", 3)
        self.parts.append(ids[1:])
        self.x = layers.Subtract(name=self.name("minus"))([model(start[0]), model(self.x)])
        self.ids = ids[1:] if b % 2 else ids

    def output(self, a, b):
        """Another output: a head, or the channels themselves."""
        x = layers.GlobalAveragePooling2D(name=self.name("gap"))(self.x)
        if a % 2:
            self.pinned.update(self.ids)
            self.outputs.append(x)
            return
        name = self.name("head")
        self.outputs.append(layers.Dense(2, name=name)(x))
        self.reads.append(Read(name, "kernel", 0, self.ids))
        self.pinned.update(self.made(name, 2))

    def head(self, dense):
        if dense:
            spots = self.x.shape[1] * self.x.shape[2]
            self.x, ids = layers.Flatten(name="flatten")(self.x), self.ids * spots
        else:
            self.x, ids = layers.GlobalMaxPooling2D(name="gmp")(self.x), self.ids
        self.reads.append(Read("hidden", "kernel", 0, ids))
        self.x = layers.Dense(5, activation="relu", name="hidden")(self.x)
        self.count += 1
        self.reads.append(Read("logits", "kernel", 0, self.made("hidden", 5)))
        self.x = layers.Dense(2, name="logits")(self.x)
        self.count += 1
        self.pinned.update(self.made("logits", 2))

    # -- the oracle -------------------------------------------------------------------------------
    def classes(self):
        """The sets of channels that live or die together and may die."""
        fixed = {self.root(i) for i in self.pinned} | {self.root(-1)}
        every = {self.root(i) for ids in self.writes.values() for i in ids}
        return sorted(every - fixed)

    def drop(self, dropped):
        """What to keep in each layer so that the classes in `dropped` go."""
        return {
            name: [p for p, i in enumerate(ids) if self.root(i) not in dropped]
            for name, ids in self.writes.items()
        }

    def choose(self, seed, share=0.5):
        """A random set of classes to drop that leaves every layer a channel."""
        random, dropped = np.random.default_rng(seed), set()
        for one in random.permutation(self.classes()):
            if random.random() < share:
                tried = dropped | {int(one)}
                parts = [any(self.root(i) not in tried for i in ids) for ids in self.parts]
                if all(self.drop(tried).values()) and all(parts):
                    dropped = tried
        return dropped

    def masked(self, dropped):
        """The dense model with the dropped channels zeroed where they are read."""
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        for read in self.reads:
            rows = [p for p, i in enumerate(read.ids) if self.root(i) in dropped]
            variable = weight(model, read.layer, read.weight)
            value = np.moveaxis(np.array(variable), read.axis, 0)
            value[rows] = 0
            variable.assign(np.moveaxis(value, 0, read.axis))
        return model


def _wide(y, width):
    return layers.Conv2D(width, 1, name="wide")(y)


def layer_of(model, path):
    *outer, name = path.split("/")
    for one in outer:
        model = model.get_layer(one)
    return model.get_layer(name)


def weight(model, path, name):
    return next(v for v in layer_of(model, path).weights if v.name == name)


def randomize(model, seed):
    """Weights that leave no channel at a special value: biases, moving statistics and all."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        value = random.normal(0, 0.4, variable.shape)
        if "variance" in variable.name or variable.name == "gamma":
            value = 0.5 + random.random(variable.shape)
        if "seed" not in variable.name:
            variable.assign(value.astype("float32"))


def lively(model, seed=0):
    """Random weights at a scale at which a hundred layers neither vanish nor overflow."""
    randomize(model, seed)
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            depthwise = "depthwise" in variable.path or "dwconv" in variable.path
            fan_in = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
            variable.assign(variable * (3.5 / np.sqrt(fan_in)))


def images(model, count=3, seed=7):
    return (
        np.random.default_rng(seed).normal(size=(count, *model.input_shape[1:])).astype("float32")
    )


def gap(one, other):
    """The largest difference, relative to the largest value; of several outputs the worst."""
    if isinstance(one, list):
        return max(gap(a, b) for a, b in zip(one, other, strict=True))
    one, other = np.asarray(one), np.asarray(other)
    return float(np.abs(one - other).max() / max(1e-3, np.abs(one).max()))


STEPS = (
    Drawn.conv_step, Drawn.conv_bn, Drawn.residual, Drawn.operators, Drawn.squeeze,
    Drawn.depthwise, Drawn.separable, Drawn.transposed, Drawn.grouped, Drawn.concatenate,
    Drawn.plain, Drawn.shared, Drawn.nested, Drawn.dense_block, Drawn.sliced, Drawn.padded,
    Drawn.moved, Drawn.normalized, Drawn.nested_twice, Drawn.output,
)  # fmt: skip
