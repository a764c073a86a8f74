"""The maths: every function beside its hand-derived gradient, in the array API standard alone.

f takes arrays and returns y; f_backward takes dy, the gradient of the loss with respect to y, and what f saw or
returned, and gives the gradients of f's arguments. The name d + a means the gradient of the loss with respect to a.
Nothing here keeps a parameter or a state, and what is random follows from a key that is given.
"""

from gpunn.ops.activation import *  # noqa: F403
from gpunn.ops.activation import __all__ as _activation
from gpunn.ops.cast import *  # noqa: F403
from gpunn.ops.cast import __all__ as _cast
from gpunn.ops.conv import *  # noqa: F403
from gpunn.ops.conv import __all__ as _conv
from gpunn.ops.dropout import *  # noqa: F403
from gpunn.ops.dropout import __all__ as _dropout
from gpunn.ops.linear import *  # noqa: F403
from gpunn.ops.linear import __all__ as _linear
from gpunn.ops.loss import *  # noqa: F403
from gpunn.ops.loss import __all__ as _loss
from gpunn.ops.norm import *  # noqa: F403
from gpunn.ops.norm import __all__ as _norm
from gpunn.ops.orthogonal import *  # noqa: F403
from gpunn.ops.orthogonal import __all__ as _orthogonal
from gpunn.ops.pool import *  # noqa: F403
from gpunn.ops.pool import __all__ as _pool
from gpunn.ops.softmax import *  # noqa: F403
from gpunn.ops.softmax import __all__ as _softmax
from gpunn.ops.update import *  # noqa: F403
from gpunn.ops.update import __all__ as _update

__all__ = [
    *(*_activation, *_cast, *_conv, *_dropout, *_linear, *_loss, *_norm, *_orthogonal, *_pool, *_softmax, *_update),
]
