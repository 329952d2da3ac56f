package composessh

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sand-boxer/sandboxer"
)

// Expose gives the address at which a port of the main service is published. What is published is decided when the stack is
// made: the ports of the profile and of the Compose file.
func (e *extension) Expose(ctx context.Context, t sandboxer.Target, port int) (sandboxer.Endpoint, error) {
	b, err := e.open(ctx, t)
	if err != nil {
		return sandboxer.Endpoint{}, err
	}
	all, err := b.containers(ctx, b.name, t.Labels[sandboxer.LabelOwner])
	if err != nil {
		return sandboxer.Endpoint{}, err
	}
	for _, c := range of(all, b.Service) {
		if at := c.Ports[strconv.Itoa(port)+"/tcp"]; len(at) > 0 {
			return endpoint(b.Service, "tcp", port, at[0], t.Host), nil
		}
	}
	return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf(
		"sandbox %s: port %d of service %s is not published, which is decided when a sandbox is made; add it to ports of the profile, or to the Compose file", b.name, port, b.Service))
}
