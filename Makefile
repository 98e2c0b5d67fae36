# Thin names for the verbs of omega; `make` alone lists them. No logic here.
export GOTOOLCHAIN := local
export YES
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# With the flags that it is built with, gVisor is compiled once and not twice.
RUNSC_FLAGS := CGO_ENABLED=0 GOFLAGS="$(GOFLAGS) -trimpath"
OMEGA := bin/omega
json := $(if $(JSON),--json)

.DEFAULT_GOAL := help
.PHONY: help demo test crowd test-images race image boot bench verify-reproducible tools lint fmt vuln clean omega

help: ## show this list
	@echo 'make TARGET; YES=1 answers every question'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: omega ## build the image, boot it and play the whole story
	@$(OMEGA) demo $(json)

test: omega ## run all tests, those in a virtual machine included
	@$(OMEGA) tools --tests
	@$(OMEGA) build
	go test -timeout 20m ./...
	cd examples && go test ./...

test-images: omega ## build the other images too and run their tests; another kernel is compiled
	@$(OMEGA) tools --tests
	@$(OMEGA) build
	@$(OMEGA) build --profile single
	@$(OMEGA) build --profile cloud
	@$(OMEGA) build --profile debug
	OMEGA_EVERY_IMAGE=1 go test -timeout 20m -run 'SingleFile|Cloud|Debug' ./images ./cmd/omega

crowd: omega ## run N=200 agents beside hostile ones in one guest; takes long
	@$(OMEGA) tools --tests
	OMEGA_CROWD=$(or $(N),200) go test -timeout 120m -count=1 -v -run VMAgentsServeBeside ./cmd/omega

race: ## run the tests again under the race detector, without virtual machines
	OMEGA_SKIP_VM=1 CGO_ENABLED=1 go test -race -timeout 20m ./...

image: tools ## build the guest image into build/cpu
	@$(OMEGA) build

boot: image ## boot the image in QEMU
	@$(OMEGA) boot

bench: tools ## measure; BENCH=group picks, JSON=1 prints data
	@$(OMEGA) bench $(json) $(BENCH)

verify-reproducible: tools ## build twice under varied conditions and compare; FULL=1 the kernel too
	@$(OMEGA) repro $(if $(FULL),--full)

tools: omega ## install what the host needs; asks first
	@$(OMEGA) tools

lint: ## gofmt, go vet, staticcheck and the import rules
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	GOBIN="$(CURDIR)/bin" go install $(STATICCHECK)
	go vet ./... && bin/staticcheck ./...
	cd examples && go vet ./... && ../bin/staticcheck ./...
	cd images/runsc && $(RUNSC_FLAGS) sh -c 'go vet ./... && ../../bin/staticcheck ./...'
	cd gpu/nvml && CGO_ENABLED=1 CGO_CFLAGS=-w sh -c 'go vet ./... && ../../bin/staticcheck ./...'
	go test ./internal/depcheck

fmt: ## format the code
	gofmt -w .

vuln: omega ## look for known vulnerabilities; needs the vulnerability database
	@$(OMEGA) vuln $(json)

clean: ## remove what was built here; the user's cache stays
	rm -rf bin build

omega:
	@CGO_ENABLED=0 go build -trimpath -o $(OMEGA) ./cmd/omega
