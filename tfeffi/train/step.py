"""One training step as a traced function: forward, backward, unscale, methods, update."""

from collections.abc import Callable

import tensorflow as tf

from tfeffi.train import losses, scaling
from tfeffi.train.evaluation import count_correct
from tfeffi.train.state import Run


def build(run: Run) -> Callable[[tf.Tensor, tf.Tensor], None]:
    """Traces nothing yet: returns the step function of the run's present model and optimizer.

    The returned function takes a batch (images float32, labels int32; distributed values under a
    strategy with several replicas) and changes the run's variables.
    """
    settings, model, strategy = run.settings, run.model, run.strategy
    variables = [v.value for v in model.trainable_variables]
    probabilities = losses.gives_probabilities(model)
    replicas, batch_size = strategy.num_replicas_in_sync, run.batch_size

    def total_loss(images, labels):
        outputs = model(images, training=True)
        each = losses.per_example(
            settings.loss, outputs, images, labels, settings.label_smoothing, probabilities
        )
        data_loss = tf.reduce_sum(each) / batch_size  # replicas sum to the batch's mean
        extra = losses.penalty(model, settings.l1, settings.l2)
        for method in run.methods:
            term = method.extra_loss(run)
            extra += 0.0 if term is None else tf.cast(term, tf.float32)
        return data_loss + extra / replicas, data_loss, outputs

    def gradients_of_replica(images, labels):
        with tf.GradientTape() as tape:
            loss, data_loss, outputs = total_loss(images, labels)
            scaled = run.loss_scale.multiply(loss)
        gradients = tape.gradient(
            scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = run.loss_scale.divide(gradients)
        for method in run.methods:
            gradients = method.on_gradients(run, gradients)
        return gradients, data_loss, count_correct(settings.loss, outputs, labels)

    def update_replica(gradients):
        # Keras's optimizer sums over replicas once more; they are equal by now.
        gradients = [g / replicas if replicas > 1 else g for g in gradients]
        run.optimizer.apply(gradients, model.trainable_variables)

    def update(gradients):
        for method in run.methods:
            method.before_step(run)
        strategy.run(update_replica, (gradients,))
        for method in run.methods:
            method.after_step(run)

    @tf.function(autograph=False)
    def step(images, labels):
        with scaling.moving_statistics(run):  # layers read their momentum when they are traced
            gradients, loss, correct = strategy.run(gradients_of_replica, (images, labels))
        local = [strategy.experimental_local_results(g)[0] for g in gradients]
        run.loss_scale.step(local, lambda: update(gradients))
        run.totals.add(_sum(strategy, loss), _sum(strategy, correct))

    return step


def _sum(strategy, value):
    return strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
