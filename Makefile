# Hongyan needs Go, make and git; everything else comes as Go modules.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
BENCH       ?= .
REPORT      ?= hongyan-bench
VERSION     := $(shell git describe --always --dirty 2>/dev/null || echo unversioned)

# The race detector needs cgo and a C compiler.
HAVE_CC := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo yes)
RACE    := $(if $(HAVE_CC),-race)

.PHONY: build run test nightly fmt-check lint fuzz bench gobench clean

build: ## one static binary, bin/hongyan
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/hongyan .

run: build ## a cluster of three regions on this machine, until Ctrl-C
	exec bin/hongyan dev $(ARGS)

test: lint ## everything that must hold; three packages at a time, since the longest mostly wait for clusters
	@$(if $(HAVE_CC),true,echo "no C compiler: testing without the race detector (install gcc to have it)")
	go test $(RACE) -p 3 -timeout 12m ./...

nightly: build ## the same tests with thousands of random runs where `make test` has hundreds, then the bench suite at length; hours
	HONGYAN_NIGHTLY=1 go test -timeout 4h ./...
	bin/hongyan bench all --long --report $(REPORT)

lint: fmt-check ## gofmt, go vet, staticcheck
	go vet ./...
	go run $(STATICCHECK) ./...

fmt-check:
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not formatted (gofmt -w):"; echo "$$bad"; exit 1; }

fuzz: ## every fuzz target in turn, FUZZTIME each
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$pkg; \
		done; \
	done

bench: build ## the bench suite, everything short: ten minutes, report in REPORT
	bin/hongyan bench all --short --report $(REPORT)

gobench: ## Go benchmarks; BENCH selects some by name
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

clean:
	rm -rf bin
