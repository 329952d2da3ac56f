# The targets are thin: what they do stands in scripts/, which runs without make as well.
.PHONY: all test lint fmt generate bench fuzz-short soak cross examples

all: lint test

test: ## every test of every module with the race detector, real parts included (Debian or Ubuntu, root)
	bash scripts/test.sh

lint: ## gofmt, go vet, go mod tidy, golangci-lint, generated files, cross build
	bash scripts/lint.sh

fmt: ## format all Go code
	gofmt -w .

generate: ## mocks and the README's table
	bash scripts/generate.sh

bench: ## every benchmark
	bash scripts/bench.sh

fuzz-short: ## every fuzz target for ten seconds; FUZZTIME=1m make fuzz-short for longer
	bash scripts/fuzz.sh

soak: ## random work, kills and faults for ten minutes, and then the count of what was left; SOAK=1h make soak for longer
	SANDBOXER_SOAK=$${SOAK:-10m} go test -count=1 -v -timeout 0 -run '^TestSoak$$' ./manager/crashtest

cross: ## build for linux, darwin and windows on amd64 and arm64
	bash scripts/cross.sh

examples: ## run the examples
	bash scripts/examples.sh
