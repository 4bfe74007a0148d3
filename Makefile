# make run     the main job: check this machine's exporters, then allocate, fill and verify a buffer
# make test    all tests; ARGS=tests/test_x.py runs those alone, at once, on one kernel
# make demo    a camera through a GPU's shader to a display without a copy; out/demo.png shows it, with figures
# They install what they need, and bring a kernel where this machine's has no dma-buf exporter.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CHECKED := $(VENV)/.checked
EQUIPPED := $(VENV)/.equipped
WRITTEN := $(VENV)/.written
PYTEST := $(BIN)/python -m pytest
OUT := out
DEMO := examples/camera_through_shader.py --display --frames 50 --figures

KERNELS := 5.10 6.1 6.12 7.3
PYTHONS := i386 arm64 python3.13 python3.14
VM_SECONDS := 2700
# The build for processors: PyPI's own brings gigabytes for GPUs. Where pip finds none (name PyTorch's
# index of such builds in PIP_EXTRA_INDEX_URL), the tests of torch are left out.
TORCH := torch==2.13.0+cpu
# A display that imports buffers (its pictures come to $(OUT)), a DRM device with sync objects, two
# vivid cameras (one with the single-planar interface of V4L2, one with the multi-planar), and a port
# for a USB camera.
VM_DEVICES := --display --gpu --module "vivid n_devs=2 multiplanar=1,2 no_error_inj=1" \
	--module vhci_hcd --module uvcvideo

.PHONY: run demo test compiled manual layouts test-native test-outside test-interop $(PYTHONS:%=test-%) test-kernels test-lab lint types format uapi docs wheel packages deb outsider bench plots soak workflow clean

run: $(INSTALLED)
	@if [ -r /dev/dma_heap/system ] || [ -w /dev/udmabuf ]; then scripts/main-job $(BIN); \
	else scripts/vm -- scripts/main-job $(BIN); fi

demo: $(INSTALLED)
	@if [ -r /dev/dma_heap/system ]; then $(BIN)/pip install --quiet moderngl 'pillow>=10.1' && mkdir -p $(OUT) && \
		$(BIN)/python $(DEMO) $(OUT)/demo.png && echo "picture  $(OUT)/demo.png"; \
	else scripts/vm --userland gpu --display --module vivid --out $(OUT) -- \
		python3 $(DEMO) --screendump demo.png && echo "picture  $(OUT)/demo.png"; fi

# All: two virtual machines share them, side by side with what needs none, each one's output in one
# piece. Some: one kernel will do.
ifeq ($(ARGS),)
test: compiled
	@if [ -r /dev/dma_heap/system ]; then $(MAKE) wheel layouts && $(PYTEST); \
	else DMABUF_TEST_SHARED=1 $(MAKE) -j3 --output-sync=target \
		test-6.12 test-7.3 test-outside outsider layouts; fi
else
test: $(EQUIPPED)
	@if [ -r /dev/dma_heap/system ]; then $(PYTEST) $(ARGS); else $(MAKE) test-6.12; fi
endif

layouts: $(EQUIPPED)
	$(BIN)/python scripts/uapi_check /usr/include $$(scripts/kernel-headers)
	$(BIN)/python scripts/fourcc_check /usr/include $$(scripts/kernel-headers)

# On this machine as it is: what it lacks is skipped, with the cause in words.
test-native: $(EQUIPPED)
	$(PYTEST) $(ARGS)

# What asks no kernel (the headers, the package's sources, the virtual machine itself), and what this
# machine's own kernel has.
test-outside: compiled
	scripts/vm -- true # or the tests would skip what is not fetched yet
	$(MAKE) test-native

# Emulated, what this machine compiles in seconds takes minutes, and in every process anew where
# nothing compiled may be written.
compiled: $(EQUIPPED)
	$(BIN)/python -m compileall -q dmabuf dmabuf_alloc.py examples
	PYTHONDONTWRITEBYTECODE= $(PYTEST) --collect-only -q tests >/dev/null

# With other people's programs, as newer distributions have them.
test-interop: $(INSTALLED)
	scripts/vm --userland media --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/interop -- \
		python3 -m pytest -p no:cacheprovider \
		tests/test_gstreamer_unixfd.py tests/test_gstreamer_samples.py \
		tests/test_gstreamer_guide.py tests/test_libcamera.py tests/test_ffmpeg.py $(ARGS)
	scripts/vm --userland gpu --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/interop -- \
		python3 -m pytest -p no:cacheprovider -k "egl or opengl or vulkan" \
		tests/test_egl.py tests/test_egl_sync.py tests/test_examples_egl.py tests/test_guides.py \
		tests/test_vulkan.py $(ARGS)
	scripts/vm --userland desktop --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/interop -- \
		python3 -m pytest -p no:cacheprovider -k "wayland" \
		tests/test_wayland.py tests/test_guides.py $(ARGS)

# By a Python of 32 bits, by one of another processor on that processor's kernel, and by newer ones.
$(PYTHONS:%=test-%): test-%: $(INSTALLED)
	scripts/vm --userland $* --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/$* -- \
		$(or $(filter python%,$*),python3) -m pytest -p no:cacheprovider $(ARGS)

test-kernels: compiled
	$(MAKE) -j2 --output-sync=target $(KERNELS:%=test-%)

$(KERNELS:%=test-%): test-%: compiled
	scripts/vm --kernel $* --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/$* -- $(PYTEST) $(ARGS)

# The one that gives out a PCI device's memory as a dma-buf.
test-7.3: VM_DEVICES += --vfio

# Our own kernel has what stock kernels lack: a software timeline, a CMA heap, injected failures.
test-lab: compiled
	image=$$(scripts/lab-kernel) && \
	scripts/vm --kernel "$$image" --timeout $(VM_SECONDS) $(VM_DEVICES) --out $(OUT)/lab -- $(PYTEST) $(ARGS)

lint: $(CHECKED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml

types: $(CHECKED)
	$(BIN)/mypy

format: $(CHECKED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

uapi: $(INSTALLED)
	$(BIN)/python scripts/gen_uapi

manual: $(INSTALLED)
	$(BIN)/python scripts/gen_manual

# The site, which fails on a broken link and on a public name without words; it is read without a network.
docs: $(WRITTEN)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "$(CURDIR)/$(OUT)/site/index.html"

# A job of the workflow that has a container, or the action, as it stands there, in a fresh Debian:
# JOB=debian, JOB="virtual-machine target=test-6.12", JOB="action.yml 'run=ls /dev/dma_heap'".
workflow: $(CHECKED)
	scripts/need debootstrap:debootstrap
	$(BIN)/python scripts/workflow $(JOB)

# One pure wheel, or the package has grown something that must be compiled; in an environment of its
# own, where nothing but the wheel has the package, all of it can be imported: with pytest, whose
# plugin needs it.
wheel: $(INSTALLED)
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	ls build/wheel/dmabuf-*-py3-none-any.whl
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/pip install --quiet "$$(ls build/wheel/dmabuf-*-py3-none-any.whl)[testing]"
	build/fresh/bin/python -I scripts/wheel_check build/wheel/dmabuf-*-py3-none-any.whl

# A project that has the wheel alone, and brings a kernel for its tests.
outsider: wheel
	cd examples/driver-tests && ../../build/fresh/bin/python -m pytest -p no:cacheprovider --dmabuf-vm=6.12

# Source distribution and wheel as an index takes them, and the former installed as whoever has no
# wheel does: with what its build needs, fetched.
packages: $(INSTALLED)
	rm -rf build/dist build/from-source && mkdir -p build
	$(BIN)/pip install --quiet --editable '.[packages]'
	$(BIN)/python -m build --outdir build/dist . >build/dist.log
	$(BIN)/twine check --strict build/dist/*
	$(PYTHON) -m venv build/from-source
	build/from-source/bin/pip install --quiet build/dist/dmabuf-*.tar.gz
	cd build && from-source/bin/python -I -W error -c "import dmabuf; dmabuf.devices.v4l2.Capture"
	build/from-source/bin/dmabuf-alloc --version

# Debian's packages, into build/deb: on trixie or later, with what `apt-get build-dep .` brings.
deb:
	rm -rf build/deb && mkdir -p build/deb/source
	git ls-files | tar -cf - -T - | tar -xf - -C build/deb/source
	cd build/deb/source && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary

# The import is measured on the machine itself, the rest where there is a heap.
bench: $(EQUIPPED)
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/start.py
	mkdir -p $(OUT)
	@if [ -r /dev/dma_heap/system ]; then DMABUF_VM_OUT=$(OUT) scripts/benchmark $(BIN); \
	else scripts/vm $(VM_DEVICES) --out $(OUT) -- scripts/benchmark $(BIN); \
		scripts/vm --userland gpu $(VM_DEVICES) --out $(OUT) -- python3 benchmarks/opengl.py; fi

# The pictures of docs/benchmarks.md, of the results in docs/results; RESULTS=out takes new ones in before.
plots: $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[pictures]'
	$(BIN)/python benchmarks/plots.py $(RESULTS)

# All of it at once, and nothing lost: SOAK_SECONDS=3600 by default, ARGS=--faults on our own kernel.
SOAK_SECONDS ?= 3600
soak: $(INSTALLED)
	@if [ -r /dev/dma_heap/system ]; then $(BIN)/python scripts/long_run.py --seconds $(SOAK_SECONDS) $(ARGS); \
	else scripts/vm --timeout $$(($(SOAK_SECONDS) * 2 + 600)) $(VM_DEVICES) -- \
		$(BIN)/python scripts/long_run.py --seconds $(SOAK_SECONDS) $(ARGS); fi

$(INSTALLED): pyproject.toml Makefile scripts/need
	scripts/need ensurepip:python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(CHECKED): $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[check]'
	touch $@

$(WRITTEN): $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# What the tests and the benchmarks use beside the package: a compiler and headers to hold the
# layouts against, and GStreamer, which the distribution's own Python runs.
$(EQUIPPED): $(INSTALLED)
	scripts/need gcc:gcc strace:strace v4l2-ctl:v4l-utils dot:graphviz \
		/usr/include/stdio.h:libc6-dev /usr/include/libdrm/drm.h:libdrm-dev \
		'/usr/lib/*/girepository-1.0/GstAllocators-1.0.typelib:gir1.2-gst-plugins-base-1.0' \
		'/usr/lib/*/gstreamer-1.0/libgstvideo4linux2.so:gstreamer1.0-plugins-good' \
		'/usr/lib/*/gstreamer-1.0/libgstapp.so:gstreamer1.0-plugins-base' \
		'/usr/lib/python3/dist-packages/gi/__init__.py:python3-gi' \
		'/usr/lib/python3/dist-packages/_cffi_backend*.so:python3-cffi-backend'
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/pip install --quiet '$(TORCH)' || echo "no $(TORCH) here: its tests are left out"
	touch $@

clean:
	rm -rf $(VENV) build $(OUT) *.egg-info
