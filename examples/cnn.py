"""A convolutional network for MNIST, written out layer by layer, with the features it has found.

    python examples/cnn.py [epochs]

Each convolution looks at small windows of the image with the same weights everywhere; max-pooling keeps the strongest
response in each 2x2; batch normalisation keeps the scale; dropout keeps the last layer from relying on a few features.
Images are shifted, turned and scaled a little in every batch. GPUNN_DEVICE chooses the device, as everywhere.
"""

import sys

import gpunn as gn

EPOCHS = 13


def network():
    return gn.Sequential(
        gn.Reshape((28, 28, 1)),
        gn.Conv2d(1, 24, 5, padding="same", bias=False),  # (N, 28, 28, 24)
        gn.MaxPool2d(2),  #                                 (N, 14, 14, 24)
        gn.BatchNorm(24),
        gn.ReLU(),
        gn.Conv2d(24, 48, 3, padding="same", bias=False),
        gn.MaxPool2d(2),  #                                 (N, 7, 7, 48)
        gn.BatchNorm(48),
        gn.ReLU(),
        gn.Conv2d(48, 96, 3, padding="same", bias=False),
        gn.BatchNorm(96),
        gn.ReLU(),
        gn.Flatten(),  #                                    (N, 4704)
        gn.Dropout(0.3),
        gn.Linear(4704, 10, init="xavier"),
        output="softmax",
    )


def train(data, epochs=EPOCHS, batch_size=64, augment=True, verbose=True):
    train_set, test_set = data
    steps = epochs * -(-len(train_set) // batch_size)
    optimizer = gn.Adam(gn.schedules.OneCycle(0.01, steps), beta1=0.7, beta2=0.9)
    trainer = gn.Trainer(network(), gn.SoftmaxCrossEntropy(), optimizer)
    change = [gn.data.RandomAffine(shift=2.0, rotate=10.0, scale=0.1)] if augment else []
    trainer.fit(train_set, epochs=epochs, batch_size=batch_size, augment=change, verbose=verbose)
    return trainer, trainer.evaluate(test_set)


def show(features):
    """The 5x5 weights of six filters of the first convolution as text: from ' ', the lowest, to '@', the highest."""
    low, high = features.min(), features.max()
    shades = " .:-=+*#%@"
    for row in range(5):
        cells = [
            "".join(shades[int(9 * (w - low) / (high - low))] * 2 for w in features[row, :, 0, m]) for m in range(6)
        ]
        print("   ".join(cells))


def main(epochs=EPOCHS):
    network().summary((784,))
    trainer, measured = train(gn.datasets.mnist(), epochs)
    print(f"test accuracy {measured['accuracy']:.2%}")
    print("six of the features that the first layer looks for:")
    show(trainer.net.state_dict()["conv2d1.W"])
    return measured


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
