package e2b

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Find looks for what a create begun at since may have made, by its metadata. E2B lists a sandbox only after it was placed,
// so that absence is certain only when config.settle has passed.
func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	for {
		h, err := e.find(ctx, req, since)
		// A wait this short is worth it: the next look is certain.
		if wait := sandboxer.RetryAfterOf(err); sandboxer.CodeOf(err) != sandboxer.Unknown || wait <= 0 || wait > time.Second || !sleep(ctx, wait) {
			return h, err
		}
	}
}

func (e *extension) find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	var found []described
	key, begun := "", e.unsure(req)
	for page, err := range e.pages(ctx, req.Secret, e.byName(req.Name, req.Labels)) {
		if err != nil {
			return sandboxer.Handle{}, sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("looking for %s: %w", req.Name, err))
		}
		found, key = append(found, page.items...), page.key
	}
	sort.Slice(found, func(i, j int) bool { return found[i].StartedAt.Before(found[j].StartedAt) })
	for i := range found {
		if h, ok := e.handle(&found[i], key); ok && h.Ref().ID == req.ID {
			e.adopted(req, h)
			return h, nil
		}
	}
	if left := time.Until(since.Add(e.cfg.Settle)); left > 0 {
		return sandboxer.Handle{}, &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: min(left, 5*time.Second),
			Err: fmt.Errorf("%s is not listed at E2B, which may be working on its creation for another %v", req.Name, left.Round(time.Second))}
	}
	if begun != nil {
		e.drop(req, begun)
	}
	return sandboxer.Handle{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no %s at E2B", req.Name))
}

// unsure returns the creation of req's name whose outcome is not known; nil where there is none.
func (e *extension) unsure(req *sandboxer.ProvisionRequest) *creation {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.names[creationKey(req.Name, req.Labels)]
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		if !c.since.IsZero() {
			return c
		}
	default:
	}
	return nil
}

// adopted remembers what was found, so that Provision does not create it again.
func (e *extension) adopted(req *sandboxer.ProvisionRequest, h sandboxer.Handle) {
	c := &creation{done: make(chan struct{}), handle: h}
	close(c.done)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[creationKey(req.Name, req.Labels)] = c
}

// byName is the metadata that tells one sandbox from all others. Without an owner (a direct call) the name has to do.
func (e *extension) byName(name string, labels map[string]string) map[string]string {
	out := map[string]string{sandboxer.LabelName: name}
	if owner := labels[sandboxer.LabelOwner]; owner != "" {
		out[sandboxer.LabelOwner] = owner
	}
	return out
}

// List yields the sandboxes, running and paused, that carry the labels of q and were made by this extension.
func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		for page, err := range e.pages(ctx, q.Secret, q.Labels) {
			if err != nil {
				yield(sandboxer.Instance{}, err)
				return
			}
			for i := range page.items {
				d := &page.items[i]
				h, ok := e.handle(d, page.key)
				if !ok || d.Metadata[sandboxer.LabelOwner] == "" {
					continue
				}
				if !yield(instance(d, h), nil) {
					return
				}
			}
		}
	}
}

func instance(d *described, h sandboxer.Handle) sandboxer.Instance {
	in := sandboxer.Instance{Handle: h, State: sandboxer.StateReady, Labels: labelsOf(d.Metadata), CreatedAt: d.StartedAt.UTC(), ExpiresAt: d.EndAt.UTC()}
	if d.paused() {
		in.State, in.ExpiresAt = sandboxer.StatePaused, time.Time{}
	}
	return in
}

type page struct {
	items []described
	key   string // version of the key that sees them
}

const (
	pageSize = 100
	maxPages = 10000
)

// pages lists what carries the given metadata. Any error means that the listing is incomplete.
func (e *extension) pages(ctx context.Context, secret sandboxer.SecretFunc, metadata map[string]string) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		token, seen := "", map[string]bool{}
		for range maxPages {
			rep, err := e.list(ctx, secret, metadata, token)
			if err != nil {
				yield(page{}, err)
				return
			}
			p := page{key: rep.key}
			var items []described
			if err := rep.into(&items); err != nil {
				yield(page{}, err)
				return
			}
			for _, d := range items {
				if matches(d.Metadata, metadata) { // a filter that the server did not understand must widen nothing
					d.inOurTime(rep)
					p.items = append(p.items, d)
				}
			}
			if !yield(p, nil) {
				return
			}
			token = rep.header.Get("X-Next-Token")
			if token == "" {
				return
			}
			if seen[token] {
				break
			}
			seen[token] = true
		}
		yield(page{}, sandboxer.Mark(sandboxer.Unavailable, errors.New("E2B's listing does not end: a page leads to one that was already read")))
	}
}

func (e *extension) list(ctx context.Context, secret sandboxer.SecretFunc, metadata map[string]string, token string) (*reply, error) {
	filter := metadataQuery(metadata)
	if !e.api.old.Load() {
		query := "state=running%2Cpaused&limit=" + strconv.Itoa(pageSize)
		if filter != "" {
			query = filter + "&" + query
		}
		if token != "" {
			query += "&nextToken=" + url.QueryEscape(token)
		}
		rep, err := e.api.do(ctx, secret, request{method: http.MethodGet, path: "/v2/sandboxes", query: query, repeatable: true})
		if !noSuchMethod(err) {
			return rep, err
		}
		e.api.old.Store(true)
	}
	return e.api.do(ctx, secret, request{method: http.MethodGet, path: "/sandboxes", query: filter, repeatable: true})
}

// metadataQuery writes a filter as E2B wants it: keys and values path-escaped, the pairs form-encoded, and all of it
// query-escaped. "" where there is nothing to filter by.
func metadataQuery(metadata map[string]string) string {
	if len(metadata) == 0 {
		return ""
	}
	keys := make([]string, 0, len(metadata))
	for k := range metadata {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	pairs := make([]string, 0, len(keys))
	for _, k := range keys {
		pairs = append(pairs, url.QueryEscape(component(k))+"="+url.QueryEscape(component(metadata[k])))
	}
	return "metadata=" + url.QueryEscape(strings.Join(pairs, "&"))
}

// component escapes s the way a path is: url.QueryEscape writes a space as a plus sign.
func component(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
