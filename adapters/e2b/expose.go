package e2b

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Expose returns the public address of a port. Nothing is changed at E2B: its edge serves every port of a sandbox, over HTTP
// and WebSocket only, whether something listens there or not. Everybody who knows the address can use it, unless the
// sandbox was created with public_ports: false; then E2B asks for a token that this library does not give out.
func (e *extension) Expose(ctx context.Context, t sandboxer.Target, port int) (sandboxer.Endpoint, error) {
	if port < 1 || port > 65535 || port == envdPort {
		return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("port %d cannot be exposed; use 1 to 65535, but not %d", port, envdPort))
	}
	in, err := decodeInputs(t.Inputs)
	if err != nil {
		return sandboxer.Endpoint{}, err
	}
	if in.PublicPorts != nil && !*in.PublicPorts {
		return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the sandbox was created with public_ports: false, so that nobody reaches port %d without E2B's token", port))
	}
	var url string
	err = e.talk(ctx, t, func(ses *session) error {
		url = strings.NewReplacer("{port}", strconv.Itoa(port), "{id}", ses.id, "{domain}", e.domainOf(ses)).Replace(e.cfg.PortURL)
		return nil
	})
	return sandboxer.Endpoint{Name: "port-" + strconv.Itoa(port), URL: url, Port: port}, err
}
