package e2b

import (
	"context"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// lookGrace is how much longer than the create itself the look-up beside it may take.
const lookGrace = time.Second

// sighting is what already carried the name of a create.
type sighting struct {
	found []described
	key   string
}

// lookUp begins to look for what carries the name of req. The returned function waits for the answer; it is empty where
// none came, since a create does not fail because a listing does.
func (e *extension) lookUp(ctx context.Context, req *sandboxer.ProvisionRequest) func() sighting {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan sighting, 1)
	go func() {
		var s sighting
		for page, err := range e.pages(ctx, req.Secret, map[string]string{sandboxer.LabelName: req.Name}) {
			if err != nil {
				break
			}
			s.found, s.key = append(s.found, page.items...), page.key
		}
		done <- s
	}()
	return func() (s sighting) {
		late := time.AfterFunc(lookGrace, cancel)
		s = <-done
		late.Stop()
		cancel()
		return s
	}
}

// fetchedOnce is f for one create, whose requests share a key: it is fetched once, unless it is refused. It may be called by
// two goroutines, which nobody promised of f.
func fetchedOnce(f sandboxer.SecretFunc) sandboxer.SecretFunc {
	if f == nil {
		return nil
	}
	turn := make(chan struct{}, 1)
	have := map[sandboxer.SecretRef]sandboxer.Secret{}
	return func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return sandboxer.Secret{}, ended(ctx)
		}
		refused, again := sandboxer.RefusedKey(ctx)
		if key, ok := have[ref]; ok && (!again || key.Version() != refused) {
			return key, nil
		}
		key, err := f(ctx, ref)
		if err == nil {
			have[ref] = key
		}
		return key, err
	}
}

// compare decides between what was just bought and what was there before. h and err are what the create returned.
func (e *extension) compare(ctx context.Context, req *sandboxer.ProvisionRequest, seen sighting, h sandboxer.Handle, err error) (sandboxer.Handle, error) {
	if err != nil && !sandboxer.IsRefused(err) {
		return h, err // what it made is found by name, and must not be mistaken for what was there before
	}
	var bought state
	if !h.IsZero() {
		if err := h.State(&bought); err != nil {
			return h, err
		}
	}
	var before sandboxer.Handle
	for i := range seen.found {
		d := &seen.found[i]
		if d.SandboxID == bought.Sandbox {
			continue
		}
		if owner := req.Labels[sandboxer.LabelOwner]; owner != "" && d.Metadata[sandboxer.LabelOwner] != owner {
			taken := fmt.Errorf("%s is a sandbox of another owner at E2B (%s); choose another ID", req.Name, d.SandboxID)
			return e.takeBack(ctx, req, h, bought, sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, taken))
		}
		if was, ok := e.handle(d, seen.key); ok && was.Ref() == req.Ref() {
			before = was
		}
	}
	if before.IsZero() {
		return h, err
	}
	return e.takeBack(ctx, req, h, bought, before, nil)
}

// takeBack ends what was bought by mistake and returns instead and err. Where it cannot, it returns h: it has to be torn
// down.
func (e *extension) takeBack(ctx context.Context, req *sandboxer.ProvisionRequest, h sandboxer.Handle, bought state, instead sandboxer.Handle, err error) (sandboxer.Handle, error) {
	if h.IsZero() {
		return instead, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.limits.call)
	defer cancel()
	if _, killErr := e.kill(ctx, req.Secret, bought); killErr != nil {
		return h, sandboxer.Mark(sandboxer.AlreadyExists, fmt.Errorf("%s was there already, and the second one could not be ended: %w", req.Name, killErr))
	}
	return instead, err
}
