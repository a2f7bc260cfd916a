# make demo and make test are what a newcomer wants. What runs is a static
# binary in build/; what a target needs of Debian, test/ground/packages installs.

VERSION := 0.2.0
# The version before this one and its commit: what the upgrade tests begin with.
PREVIOUS_VERSION := 0.1.0
PREVIOUS := cf4926cbf5d0
PREFIX  := /usr
DESTDIR :=
SECONDS := 300
NSDB    := file

MAKEFLAGS   += --no-print-directory
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One thing after the other, whatever -j says: the grounds share the processors.
.NOTPARALLEL:

# One configuration for everything except the race detector, which needs cgo. So each package is compiled at most twice.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath -buildvcs=false,$(GOFLAGS)) -trimpath -buildvcs=false)

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM := go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
CYCLONEDX := go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# Commit and day of what is built; empty without git. --version prints them, and files in packages have this day.
REVISION := $(shell git log -1 --format='commit %h, %cs' 2>/dev/null)
COMMITTED := $(or $(shell git log -1 --format=%ct 2>/dev/null),0)

# Every shell script, by its first line or its name.
scripts = $(shell find . -path ./build -prune -o -path ./.git -prune -o -type f \
	\( -name '*.bash' -o -name '*.bats' -o -exec awk '/^\#!.*sh$$/ {found = 1} {exit} END {exit !found}' {} \; \) -print)

# The packages with tests that need the sandbox. Those of svc-ipsec run without the race detector.
raced_ground = $(filter-out cmd/svc-ipsec,$(sort $(patsubst %/,%,$(dir $(shell grep -rl SVC_TEST_GROUND --include='*_test.go' cmd pkg test)))))

.PHONY: run-race run-ground run-bats run-crash run-guest run-esp run-debian13 unit-packages
.PHONY: packages package-files packages-test
.PHONY: help build tools previous test test-full check unit bats crash soak guest guest-full endurance bench demo install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ {printf "make %-10s %s\n", $$1, $$2}' Makefile

# compile FOLDER VERSION REVISION
define compile
	go build -o $(1) -ldflags '-s -w -X main.version=$(2) -X main.serviceVersion=$(2) -X "main.revision=$(3)"' ./cmd/...
endef

build: ## the static binaries, in build/
	$(call compile,build/,$(VERSION),$(REVISION))

previous: build/previous/$(PREVIOUS) ## binaries and units of the version before this one, from its commit, in build/previous/

# The file names the commit that the binaries beside it were built from.
build/previous/$(PREVIOUS):
	@git cat-file -e '$(PREVIOUS)^{commit}' 2>/dev/null || { \
		echo "the upgrade tests need version $(PREVIOUS_VERSION), commit $(PREVIOUS), which is not in this clone:"; \
		if [ "$$(git rev-parse --is-shallow-repository 2>/dev/null)" = true ]; then \
			echo "the clone is shallow; git fetch --unshallow brings the whole history"; \
		else echo "clone the repository with its history"; fi; exit 1; } >&2
	rm -rf build/previous
	mkdir -p build/previous/source
	git archive '$(PREVIOUS)' | tar -x -C build/previous/source
	cd build/previous/source && $(call compile,$(CURDIR)/build/previous/,$(PREVIOUS_VERSION))
	mv build/previous/source/contrib/systemd build/previous/
	rm -rf build/previous/source
	touch $@

# ground FLAGS PACKAGES: their tests in the sandbox
define ground
	test/ground/run systemd SVC_TEST_GROUND=1 SVC_TEST_NSDB=1 GOTMPDIR=/srv GOFLAGS='$(GOFLAGS)' \
		CGO_ENABLED=$(if $(filter -race,$(1)),1,0) GOCACHE="$$(go env GOCACHE)" GOMODCACHE="$$(go env GOMODCACHE)" \
		build/tools/secrets go test -vet=off -count=1 -p 1 -timeout 3h $(1)
endef

# The tests in the sandbox wait more than they work, so they run beside those that need the processors. What apt installs must be there
# before: it restarts any systemd that runs from the same files.
test: check build tools previous ## check, unit, bats, crash, guest; side by side
	test/ground/packages build nsdb sandbox runtimes metrics guest
	test/lanes \
		go '$(MAKE) run-race run-guest' \
		sandbox '$(MAKE) run-ground run-crash' \
		bats '$(MAKE) run-bats run-esp'
	build/tools/secrets -in build/*.log
	@echo
	@echo "make test: $$(cat build/unit.log build/ground.log | awk '$$1 == "ok" {print $$2}' | sort -u | wc -l) Go packages," \
		"$$(grep -c '^ok' build/ground.log) of them in the sandbox," \
		"$$(grep -c '^ok' build/bats.log) bats tests," \
		"$$(grep -c '^ok' build/crash.log) kills," \
		"$$(cat build/guest.log build/esp.log | grep -cE '^ok|^--- PASS') tests with ESP"
	@echo "$$(cat build/unit.log build/ground.log build/bats.log build/crash.log build/guest.log build/esp.log | grep -cE '^ok|^--- PASS') passed, 0 failed"

test-full: test packages-test guest-full endurance ## everything that make test has no time for, too: before a release

check: ## formatting, vet, staticcheck, shellcheck
	test/ground/packages check
	@test -z "$$(gofmt -l *.go bench cmd internal pkg test)" || { gofmt -d *.go bench cmd internal pkg test; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(STATICCHECK) ./...
	shellcheck $(scripts)
	awk '/^```/ {inside = 0} inside; /^```sh svc-echo$$/ {inside = 1}' docs/executables.md | shellcheck -

unit: build tools unit-packages run-race run-ground ## Go tests with the race detector, etcd and ZooKeeper included; those that need systemd in the sandbox

unit-packages:
	test/ground/packages build nsdb sandbox

# These packages start no goroutines (a test checks that), and their tests evaluate many combinations, which takes ten times as long
# with the race detector.
sequential = cmd/svc-ipsec/internal/config cmd/svc-ipsec/internal/render cmd/svc-supervisor/internal/decide pkg/watch/zoom/model

# The packages whose tests run in the sandbox with the race detector are not tested here too. `make check` runs vet.
run-race:
	@mkdir -p build
	SVC_TEST_NSDB=1 SVC_TEST_LIBRESWAN=1 CGO_ENABLED=1 go test -vet=off -race -timeout 60m \
		$$(go list ./... | grep -vxF "$$(printf "$$(go list -m)/%s\n" $(sequential) $(raced_ground))") | tee build/unit.log
	SVC_TEST_LIBRESWAN=1 go test -vet=off -timeout 60m $(addprefix ./,$(sequential)) | tee -a build/unit.log

# Not in /tmp nor in a home: their units have those hidden, and run the test binary.
# svc-ipsec is run as a program hundreds of times there, with deadlines: as it is built. Its tests mostly wait, so they have
# a sandbox beside the others'.
run-ground:
	@mkdir -p build
	$(call ground,./cmd/svc-ipsec/) >build/ground-ipsec.log 2>&1 & ipsec=$$!; \
	trap 'kill $$ipsec 2>/dev/null || true' INT TERM; failed=0; \
	$(call ground,-race $(addprefix ./,$(raced_ground))) | tee build/ground.log || failed=1; \
	wait $$ipsec || failed=1; tee -a build/ground.log <build/ground-ipsec.log; exit $$failed

tools: ## CNI's own programs, which the tests drive the executables with; test/secrets, which looks for keys that are seen; test/isolation/attack, which plays a captured daemon
	go build -o build/tools/ ./test/secrets ./test/isolation/attack
	GOBIN=$(CURDIR)/build/tools go install github.com/containernetworking/cni/cnitool@v1.3.1
	GOBIN=$(CURDIR)/build/tools go install \
		github.com/containernetworking/plugins/plugins/main/bridge@v1.9.1 \
		github.com/containernetworking/plugins/plugins/main/ptp@v1.9.1 \
		github.com/containernetworking/plugins/plugins/ipam/host-local@v1.9.1

bats: build tools previous ## the behaviour of the whole, in the sandbox, also under podman and containerd
	test/ground/packages runtimes metrics
	$(MAKE) run-bats

run-bats:
	test/bats/run | tee build/bats.log

guest: build tools previous run-guest run-esp ## tunnels, where the kernel has ESP, also to strongSwan

run-guest:
	test/guest/run | tee build/guest.log

run-esp:
	test/strongswan/run | tee build/esp.log
	go test -c -o build/kernelevents.test ./cmd/svc-supervisor/internal/kernelevents
	test/ground/run esp SVC_TEST_GROUND=1 build/kernelevents.test -test.v -test.run SAs | tee -a build/esp.log
	go test -c -o build/svc-ipsec.test ./cmd/svc-ipsec
	test/ground/run esp SVC_TEST_GROUND=1 build/tools/secrets build/svc-ipsec.test -test.v -test.run 'TestANarrow|TestAnEditAfter' | tee -a build/esp.log

guest-full: build tools previous ## a reboot; all rows against strongSwan; all combinations on both Libreswans, and an upgrade with each of them; on Debian 13 the suites with tunnels and svc-ipsec's own tests
	[ "$${HOST:-0}" = 1 ] || test/reboot/run | tee build/guest-full.log
	test/strongswan/run -all | tee -a build/guest-full.log
	go test -c -o build/svc-ipsec.test ./cmd/svc-ipsec
	test/ground/run esp SVC_TEST_GROUND=1 build/tools/secrets build/svc-ipsec.test -test.v -test.run 'TestARefusedRekey|TestATunnelWhoseESP' | tee -a build/guest-full.log
	test/combinations/run -all | tee -a build/guest-full.log
	test/combinations/run -all -from $(CURDIR)/build/previous/svc-ipsec | tee -a build/guest-full.log
	[ "$${HOST:-0}" = 1 ] || $(MAKE) --no-print-directory run-debian13 | tee -a build/guest-full.log
	build/tools/secrets -in build/guest-full.log

# The suites with tunnels, and svc-ipsec's own tests as binaries, because that root has no Go.
run-debian13:
	go test -c -o build/svc-ipsec.test ./cmd/svc-ipsec
	go test -c -o build/config.test ./cmd/svc-ipsec/internal/config
	@echo "# Debian 13: svc-ipsec's own tests"
	$(on_debian13)/sandbox SVC_TEST_GROUND=1 build/tools/secrets build/svc-ipsec.test -test.timeout 3h
	$(on_debian13)/sandbox SVC_TEST_LIBRESWAN=1 build/config.test -test.run Libreswan
	$(on_debian13)/sandbox build/tools/secrets bats test/bats/failclosed.bats
	@echo "# Debian 13: test/guest"
	GUEST_ROOT="$$(test/ground/debian13)" test/guest/run
	@echo "# Debian 13: those of svc-ipsec's own tests that have traffic"
	$(on_debian13)/guest SVC_TEST_GROUND=1 build/tools/secrets build/svc-ipsec.test \
		-test.run 'TestTrafficGoes|TestTwoEndsKnow|TestANarrow|TestARefusedRekey|TestATunnelWhoseESP'

on_debian13 = root="$$(test/ground/debian13)"; SANDBOX_ROOT="$$root" GUEST_ROOT="$$root" test/ground

endurance: build tools ## what must hold for ten minutes and longer, in the sandbox and in the guest; half an hour
	test/ground/packages sandbox
	test/ground/run systemd $(endurance) test/endurance/observer.bats | tee build/endurance.log
	GUEST_TIMEOUT=1800 test/ground/run esp $(endurance) test/endurance/tasks.bats | tee -a build/endurance.log
	build/tools/secrets -in build/endurance.log

endurance = build/tools/secrets bats --timing --setup-suite-file test/bats/setup_suite.bash

crash: build tools ## a kill before each effect on the host, and what the next start makes of it; FULL=1 for all of them
	$(MAKE) run-crash

run-crash:
	test/crash/run | tee build/crash.log

soak: build tools ## bounded harm to a dozen containers, then an exact comparison: SECONDS=300
	test/soak/run -seconds $(SECONDS)

# ROWS chooses groups of measurements by a regular expression, RUNS the runs of each.
ROWS := .
RUNS := 3

bench: build ## what svc-supervisor and svc-ipsec cost, compared with the least that the same work costs: ROWS=. RUNS=3
	test/ground/packages sandbox
	go build -o build/bench/ ./bench ./bench/floor
	go build -o build/bench/svc-bench ./bench/minimal
	test/ground/run systemd build/bench/bench -rows '$(ROWS)' -runs $(RUNS) -o build/bench/results.json -plot build/bench/ratios.svg build

demo: build ## two sites, two containers, a tunnel: from binding to traffic and back; NSDB=etcd or zk on those
	[ "$(NSDB)" = file ] || test/ground/packages nsdb
	[ "$(NSDB)" != zk ] || go build -o build/tools/ ./test/seed
	rm -rf build/demo
	$(MAKE) --no-print-directory install DESTDIR=build/demo PREFIX=/usr
	test/ground/run esp NSDB=$(NSDB) examples/two-sites/demo

install: ## what make build made, with units and man pages: DESTDIR= PREFIX=/usr
	install -d -m 755 $(DESTDIR)/etc/svc-supervisor $(DESTDIR)/opt/svc/bin
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin build/svc-supervisor
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/libexec/svc-supervisor build/svc-ipsec
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/svc-supervisor.8 docs/man/svc-ipsec.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system contrib/systemd/svc.slice \
		contrib/systemd/svc-ipsec.slice contrib/systemd/svc-supervisor.service
	sed -i '/^ExecStart=\|^Environment=/s,=/usr/,=$(PREFIX)/,' $(DESTDIR)$(PREFIX)/lib/systemd/system/svc-supervisor.service

# What the packages contain besides files of the repository.
package-files: build
	rm -rf build/packages
	mkdir -p build/packages/man
	for page in svc-supervisor svc-ipsec; do gzip -9n <docs/man/$$page.8 >build/packages/man/$$page.8.gz; done
	contrib/packaging/notices >build/packages/THIRD-PARTY-NOTICES

packages: package-files ## a Debian package, an RPM package and an SBOM (CycloneDX), in build/packages
	for packager in deb rpm; do \
		GOARCH=$$(go env GOARCH) VERSION=$(VERSION) SOURCE_DATE_EPOCH=$(COMMITTED) \
			$(NFPM) package --config contrib/packaging/nfpm.yaml --packager $$packager --target build/packages/; \
	done
	for program in svc-supervisor svc-ipsec; do \
		$(CYCLONEDX) app -json -licenses -main cmd/$$program -output build/packages/$$program.cdx.json . ; \
	done
	ls -l build/packages

packages-test: tools packages ## the packages, installed and used in a guest with ESP
	test/packages/run | tee build/packages.log

clean: ## removes build/
	rm -rf build
