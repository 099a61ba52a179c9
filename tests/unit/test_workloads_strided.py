"""A strided 1x1 convolution must not crash the training of a narrow network: see the comment in supernet.SlimConv."""
import subprocess
import sys

CODE = """
import torch
from workloads.supernet import SlimConv
torch.set_num_threads(2)
conv = SlimConv(4, 8, (1, 1), (2, 2), [1.0]).to(memory_format=torch.channels_last).train()
for count in [64] * 10 + [53, 37, 21, 64] * 12:
    x = torch.randn(count, 4, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    conv(x, 1.0).pow(2).mean().backward()
plain = conv.eval().extract(1.0).eval()
x = torch.randn(3, 4, 16, 16)
assert torch.allclose(plain(x), conv(x, 1.0), atol=1e-5)
print("sound")
"""


def test_two_threads_few_channels_and_batches_of_several_sizes() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "sound"), done.stderr[-500:]
