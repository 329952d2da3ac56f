module example.com/custom-adapter

go 1.26.5

require github.com/sand-boxer/sandboxer v0.0.0

require (
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

// A program outside this repository leaves this line out.
replace github.com/sand-boxer/sandboxer => ../..
