# Hongyan needs Go, make and git; everything else comes as Go modules.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
BENCH       ?= .
REPORT      ?= hongyan-bench
CORPUS      ?= ../shared/corpus.tar.xz
VERSION     := $(shell git describe --always --dirty 2>/dev/null || echo unversioned)

# One way to compile what is not watched by the race detector, so that the program, its checks and its tests share what is compiled.
PLAIN := CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'

# The race detector needs cgo and a C compiler.
HAVE_CC := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo yes)

# Under the race detector pebble checks itself at every step, which takes up to half of the time of our tests. QUIET has its source without that, beside the build cache,
# in a folder for each set of dependencies, which checkouts share.
QUIET  := $(shell go env GOCACHE)/hongyan-quiet-pebble-$(shell cat go.mod go.sum Makefile | git hash-object --stdin)
PEBBLE := github.com/cockroachdb/pebble/v2
RACE    := $(if $(HAVE_CC),-race -modfile=$(QUIET)/go.mod)

.PHONY: build run quiet test race models nightly fmt-check lint fuzz bench gobench clients clean

build: ## one static binary, bin/hongyan
	$(PLAIN) go build -ldflags '-X main.version=$(VERSION)' -o bin/hongyan .

run: build ## a cluster of three regions on this machine, until Ctrl-C
	exec bin/hongyan dev $(ARGS)

# Without what debuggers read, which takes half of the time that a test program is linked in.
TEST := go test -vet=off -ldflags=-w

# The longest packages first, so that none of them is left over at the end; three at a time, since they mostly wait for clusters.
LONG := ./cluster/shard ./cluster ./cluster/replica ./bench/lab ./bench/scenario ./bench/exercise ./frontends/imap

# Models, crashes and schedules: the race detector watches few of them, see engine/effort, and the many are run without it. Those of the file formats run
# one goroutine each: it watches none of these.
FORMATS := $(addprefix ./engine/,cold fulltext index journal keys volume)
MODELS  := ./cluster/shard ./cluster ./cluster/collect ./cluster/placement ./cluster/liveness ./cluster/rebuild ./cluster/lease ./cluster/mailbox ./engine/message ./bench/mail ./frontends/imap ./frontends/imap/columns $(FORMATS)
MODEL   := ShardsDoNotMeet|Amend|Audit|LostFragment|FragmentsMissing|Pieces|Range|Virtual|AsBolt|Model|Random|SameLog|Crash|PowerCut|Faults|Flipped|EachCall|Damage|Recount|Mended|AnyTarget|LateLink|LargeCluster|LargeBatches|FarBehind|GrowAndDrain|LostDisk|Policies|TestRebuild$$|Outline|Corpus|TestColumn$$|GuestNeeds|ManyMailboxes|Recall$$|ThreeLost|ComeBack|OfMoves|FollowsItsPolicy|ReserveTakes

quiet: # a copy of pebble whose checks follow the tag invariants alone, made beside its place, which it takes whole
	@[ -d $(QUIET) ] || { set -e; mkdir -p $(dir $(QUIET)); new=$$(mktemp -d $(QUIET).XXXXXX); trap 'rm -rf $$new' EXIT; \
		cp -r "$$(go mod download -json $(PEBBLE) | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')" $$new/pebble; chmod -R u+w $$new; \
		cd $$new/pebble/internal/invariants; sed 's,^//go:build .*,//go:build !invariants,' off.go >quiet.go; sed -i 's,^//go:build .*,//go:build invariants,' on.go; rm off.go; \
		sed -i 's,^const Enabled = .*,const Enabled = buildtags.Invariants,' invariants.go; \
		cd $(CURDIR); cp go.mod go.sum $$new/; go mod edit -replace $(PEBBLE)=$(QUIET)/pebble $$new/go.mod; \
		mv -T $$new $(QUIET) 2>/dev/null || [ -d $(QUIET) ]; } # another make may have been first

test: fmt-check $(if $(HAVE_CC),quiet) ## everything that must hold
	@$(if $(HAVE_CC),true,echo "no C compiler: testing without the race detector (install gcc to have it)")
	@[ -f ../shared/corpus.tar.xz ] || echo "NO MESSAGES: $(abspath ../shared/corpus.tar.xz) is missing, and the tests with mail that people wrote are skipped"
	@$(MAKE) --no-print-directory -j3 race lint $(if $(HAVE_CC),models)

race: # every test, under the race detector if there is a C compiler
	$(TEST) $(RACE) -p 3 -timeout 12m $(LONG) $$(go list ./... | grep -vxF "$$(go list $(LONG) $(FORMATS))")
	$(TEST) $(RACE) -p 3 -timeout 12m $(if $(HAVE_CC),-skip '$(MODEL)') $(FORMATS)

models: # like lint in the time that the race pass waits for its clusters
	$(PLAIN) nice -n 5 $(TEST) -p 2 -timeout 14m -run '$(MODEL)' $(MODELS)

nightly: build ## the same tests with thousands of random runs where `make test` has hundreds, then the bench suite at length; hours
	HONGYAN_NIGHTLY=1 go test -timeout 4h ./...
	bin/hongyan bench all --long --report $(REPORT)

lint: fmt-check ## gofmt, go vet, staticcheck
	$(PLAIN) nice -n 10 go vet ./...
	$(PLAIN) nice -n 10 go run $(STATICCHECK) ./...

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

PROGRAMS := curl python3 mbsync fetchmail getmail offlineimap mutt script

clients: build ## mail programs against a cluster over TLS, those that are installed (Debian: curl python3 isync fetchmail getmail6 offlineimap3 mutt bsdutils)
	@for p in $(PROGRAMS); do command -v $$p >/dev/null || echo "NOT INSTALLED, and so not tested: $$p"; done
	@[ -f "$(abspath $(CORPUS))" ] || echo "NO MESSAGES: $(abspath $(CORPUS)) is missing, all is skipped (CORPUS=… names another)"
	HONGYAN_CLIENTS=$(abspath $(CORPUS)) go test -count=1 -timeout 20m -v ./frontends/clients

clean:
	rm -rf bin
