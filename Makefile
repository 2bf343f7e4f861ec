# make demo | test | test-long | test-targets | test-tpu | test-ray | lint | bench | bench-train | bench-compress | bench-distributed | bench-pqn | bench-domains | bench-robot | install: each installs what it needs into .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Without an NVIDIA driver the CPU build of torch is pinned, so that no CUDA packages are pulled.
TORCH  ?= $(if $(shell command -v nvidia-smi 2>/dev/null),torch==2.13.0,torch==2.13.0+cpu)
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/.peers

.PHONY: install demo test test-long test-targets test-tpu test-ray lint bench bench-deploy bench-train bench-compress bench-distributed bench-pqn bench-domains bench-robot docs clean
install: $(STAMP)

$(STAMP): pyproject.toml setup.py $(wildcard src/nimbleq/native/*.[ch] src/nimbleq/native/*/*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" "setuptools>=77" "numpy>=2.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev]"
	$(BIN)/python -m compileall -q src/nimbleq  # once, not in each process where PYTHONDONTWRITEBYTECODE is set: 0.9 s
	touch $@

demo: install
	$(BIN)/nimbleq run --env CartPole-v1 --out runs/demo

lint: install
	$(BIN)/ruff format --check src tests benchmarks examples docs/*.py setup.py
	$(BIN)/ruff check src tests benchmarks examples docs/*.py setup.py
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The same and what takes longer: learning tests, every compiler, damage to every byte; about a quarter of an hour.
test-long: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not targets and not tpu"

# Compilers and emulators of every target, Debian's names. gcc-multilib cannot be installed beside the cross compilers.
TOOLCHAINS := gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-riscv64-linux-gnu libc6-dev-riscv64-cross \
  gcc-i686-linux-gnu libc6-dev-i386-cross gcc-arm-none-eabi libnewlib-arm-none-eabi gcc-avr avr-libc arduino-core-avr \
  clang libclang-rt-14-dev lld rustc cargo nodejs chromium libsimde-dev qemu-user qemu-system-arm simavr verilator valgrind cmake

# Every op on every target, each processor and toolchain at length, and random graphs (FUZZ of each kind);
# ARGS=tests/deploy/cross: a part of it.
FUZZ ?= 20
test-targets: install
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get install -qq -y --no-install-recommends \
	  $(TOOLCHAINS) >/dev/null; else echo "what is missing is skipped; install all of it with: apt install $(TOOLCHAINS)"; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" --no-build-isolation --editable ".[dev,cross,openvino,executorch,litert]"
	NIMBLEQ_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "targets or not targets" $(or $(ARGS),tests/deploy)

# Actors and learners on Ray: two nodes on one machine, and kills of everything.
test-ray: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev,ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "cluster or not cluster" tests/rl/distributed

# The engine xla, its environments in JAX, and what the TPU's own compiler says (1.3 GB of packages, no TPU), in an
# environment of its own.
TPU := $(VENV)/tpu
test-tpu: $(TPU)/.installed
	OMP_NUM_THREADS=1 $(TPU)/bin/python -m pytest -m "tpu or not tpu" tests/rl/learners/xla \
	  tests/rl/envs/test_gymnax.py tests/e2e/test_tpu.py

$(TPU)/.installed: $(STAMP)
	test -x $(TPU)/bin/python || $(PYTHON) -m venv $(TPU)
	$(TPU)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" "setuptools>=77" "numpy>=2.0"
	$(TPU)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev,tpu]" flax matplotlib
	$(TPU)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps gymnax==1.0.1
	touch $@

# Wants a quiet machine and about an hour; writes benchmarks/results/ and the table in the README. What is measured stays
# and only what is missing is measured; ARGS=--fresh measures all of it again.
bench: install
	$(BIN)/python -m benchmarks.run decide td_step line $(ARGS)

# One decision beside torch, ONNX Runtime, OpenVINO, ExecuTorch, LiteRT and generated C, and circuits; writes the table, the
# picture and docs/latency.md. Pinned to one core; wants a quiet machine and about ten minutes.
bench-deploy: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" --no-build-isolation --editable ".[dev,deciders]"
	$(BIN)/python -m benchmarks.run decide fpga $(ARGS)

# Training beside SB3, sbx and CleanRL's recipe, and prioritised replay beside Tianshou; ARGS="--only cartpole".
bench-train: $(PEERS)
	$(BIN)/python -m benchmarks.run train per replay_memory $(ARGS)

# Every way of compressing on three teachers, beside ONNX Runtime, NNCF, Torch-Pruning and torchao, which get an
# environment of their own. Many hours for all cells; ARGS="--seeds 0 --only lunarlander --within 600".
bench-compress: $(VENV)/compressors/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[minatar]" --no-build-isolation
	NIMBLEQ_COMPRESSORS_PYTHON=$(VENV)/compressors/bin/python $(BIN)/python -m benchmarks.run compress equal_bytes $(ARGS)

$(VENV)/compressors/.installed: $(STAMP)
	test -x $(VENV)/compressors/bin/python || $(PYTHON) -m venv $(VENV)/compressors
	$(VENV)/compressors/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" "setuptools>=77" "numpy>=2.0"
	$(VENV)/compressors/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation ".[compressors]"
	touch $@

# A small policy beside a large value network, 10 seeds and five arms of LunarLander, 3 seeds of a MinAtar game; and six
# variants of a task, each from a source, beside scratch. Hours for all cells; ARGS="--seeds 0 --only lunarlander".
bench-policy bench-transfer: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[minatar]" --no-build-isolation
	$(BIN)/python -m benchmarks.run $(if $(filter bench-policy,$@),policy_value,transfer) $(ARGS)

$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" --no-build-isolation --editable ".[dev,peers]"
	touch $@

# The fields' environments and what is learnt in them, beside what each field would compare with (some hours in all):
# ARGS="--only seed0 --within 600". What CI skips for want of these packages is tested first.
bench-domains: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" --no-build-isolation \
	  --editable ".[dev,medicine,trading,driving,games]"
	$(BIN)/python -m pytest tests/domains
	$(BIN)/python -m benchmarks.run sepsis diagnosis trading order_book driving connect_four doudizhu minatar $(ARGS)
	$(MAKE) bench-robot

# A Crazyflie in crazyflow, which excludes the jax of the extra xla: in an environment of its own; about an hour.
ROBOT := $(VENV)/robot
bench-robot: $(ROBOT)/.installed
	OMP_NUM_THREADS=1 $(ROBOT)/bin/python -m pytest tests/domains/test_robot.py tests/test_examples.py::test_robot
	$(ROBOT)/bin/python -m benchmarks.run robot $(ARGS)

$(ROBOT)/.installed: $(STAMP)
	test -x $(ROBOT)/bin/python || $(PYTHON) -m venv $(ROBOT)
	$(ROBOT)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" "setuptools>=77" "numpy>=2.0"
	$(ROBOT)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[robot]" \
	  pytest pytest-timeout hypothesis
	touch $@

# Actors on environments that sleep, beside RLlib and torchrl, which get environments of their own; wants a quiet machine,
# 5 GB of memory and about an hour. ARGS="--only nimbleq".
bench-distributed: $(VENV)/rllib/.installed $(VENV)/torchrl/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev,ray]"
	NIMBLEQ_RLLIB_PYTHON=$(VENV)/rllib/bin/python NIMBLEQ_TORCHRL_PYTHON=$(VENV)/torchrl/bin/python \
	  $(BIN)/python -m benchmarks.run distributed $(ARGS)

# PQN on MinAtar beside rejax, which gets an environment of its own: it does not know gymnax 1.0 yet. The speeds
# take ten minutes, a run of 10⁷ steps goes on where it was stopped; ARGS="--only speed".
bench-pqn: $(VENV)/rejax/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[minatar]" --no-build-isolation
	NIMBLEQ_REJAX_PYTHON=$(VENV)/rejax/bin/python $(BIN)/python -m benchmarks.run pqn $(ARGS)

$(VENV)/rejax/.installed: $(STAMP)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check jax==0.10.2 rejax==0.1.3 gymnax==0.0.9
	touch $@

$(VENV)/rllib/.installed: PEER := ray[rllib]==2.60.0
$(VENV)/torchrl/.installed: PEER := torchrl==0.14.0 ray==2.60.0 gymnasium==1.4.0
$(VENV)/rllib/.installed $(VENV)/torchrl/.installed: $(STAMP)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" $(foreach each,$(PEER),"$(each)")
	touch $@

# The site, into build/site: README.md, docs/ and the API reference; open build/site/index.html. A warning is an error.
docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev,docs,shm]"
	$(BIN)/python -m mkdocs build
	$(BIN)/python -m pytest tests/test_site.py

clean:
	rm -rf $(VENV) build src/*.egg-info
