package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A host application acts on codes, whatever adapter they come from.
func ExampleCode() {
	var err error = &sandboxer.Error{
		Op: "create", ID: "build-42", Extension: "ext.compose-ssh", Host: "build1",
		Code: sandboxer.ResourceExhausted, NothingDone: true, RetryAfter: 30 * time.Second,
		Err: errors.New("all 8 places are taken"),
	}
	if errors.Is(err, sandboxer.ResourceExhausted) {
		fmt.Println("full; again in", sandboxer.RetryAfterOf(err))
	}
	fmt.Println(err)
	// Output:
	// full; again in 30s
	// sandboxer: create build-42 at ext.compose-ssh on build1: resource_exhausted: all 8 places are taken
}

// An adapter that knows its backend turned the request away says so; the Manager may then try again or elsewhere at once.
// After anything else it first has to find out what became of the request.
func ExampleRefused() {
	classify := func(status int, err error) error {
		switch {
		case err != nil: // the reply was lost: who knows what the backend did
			return sandboxer.Mark(sandboxer.Unavailable, err)
		case status == http.StatusTooManyRequests:
			return sandboxer.Refused(sandboxer.ResourceExhausted, errors.New("too many sandboxes at once"))
		}
		return nil
	}
	for _, err := range []error{classify(http.StatusTooManyRequests, nil), classify(0, errors.New("connection reset")), classify(http.StatusCreated, nil)} {
		fmt.Printf("%q refused=%v\n", sandboxer.CodeOf(err), sandboxer.IsRefused(err))
	}
	// Output:
	// "resource_exhausted" refused=true
	// "unavailable" refused=false
	// "" refused=false
}

// A look-up that cannot know yet says so, and when to ask again.
func ExampleError() {
	find := func() error {
		// docs:begin unknown
		return &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: 5 * time.Second,
			Err: errors.New("the request may still be running at the backend")}
		// docs:end
	}
	err := find()
	fmt.Println(errors.Is(err, sandboxer.NotFound), errors.Is(err, sandboxer.Unknown), sandboxer.RetryAfterOf(err))
	// Output:
	// false true 5s
}

// An adapter declares its inputs as a struct; defaults are set before.
func ExampleInputs_Decode() {
	type inputs struct {
		Repo      string
		SSHTarget string
		Depth     int
		Wait      time.Duration
		Token     sandboxer.SecretRef
	}
	in := inputs{Depth: 1}
	err := sandboxer.Inputs{"repo": "https://git.example/r.git", "ssh_target": "build1", "wait": "90s", "token": "env:GIT_TOKEN"}.Decode(&in)
	fmt.Printf("%+v %v\n", in, err)

	err = sandboxer.Inputs{"rebo": "https://git.example/r.git"}.Decode(&in)
	fmt.Println(err)
	// Output:
	// {Repo:https://git.example/r.git SSHTarget:build1 Depth:1 Wait:1m30s Token:env:GIT_TOKEN} <nil>
	// invalid_argument: unknown input "rebo"; did you mean "repo"?
}

// Prices are exact: an integer quantity, an integer price, and one rounding a line.
func ExampleNewMeterLine() {
	price, err := sandboxer.ParseMoney("0.000028 USD")
	if err != nil {
		panic(err)
	}
	line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", 2*3600*1_000_000, price) // two CPUs for an hour
	fmt.Println(line.Amount, err)
	// Output:
	// 0.2016 USD <nil>
}

// A secret never prints.
func ExampleSecret() {
	key := sandboxer.NewSecret([]byte("hunter2"), "2026-01")
	fmt.Printf("%v %s %q %#v %x version %s\n", key, key, key, key, key, key.Version())
	// Output:
	// [redacted] [redacted] [redacted] [redacted] [redacted] version 2026-01
}

// A key may have been rotated since it was cached: an adapter that is refused with one asks once more before it gives up.
func ExampleWithRefusedKey() {
	secret := func(ctx context.Context, _ sandboxer.SecretRef) (sandboxer.Secret, error) { // ProvisionRequest.Secret
		if version, again := sandboxer.RefusedKey(ctx); again && version == "2025" { // what a cache in between looks at
			return sandboxer.NewSecret([]byte("new"), "2026"), nil
		}
		return sandboxer.NewSecret([]byte("old"), "2025"), nil
	}
	call := func(_ context.Context, key sandboxer.Secret) error { // somewhere in an adapter: one request
		if string(key.Reveal()) != "new" {
			return sandboxer.Refused(sandboxer.Unauthenticated, errors.New("the key is not accepted"))
		}
		return nil
	}
	// docs:begin refused-key
	withKey := func(ctx context.Context, ref sandboxer.SecretRef, call func(context.Context, sandboxer.Secret) error) error {
		key, err := secret(ctx, ref)
		if err != nil {
			return err
		}
		err = call(ctx, key)
		if !errors.Is(err, sandboxer.Unauthenticated) {
			return err
		}
		again, keyErr := secret(sandboxer.WithRefusedKey(ctx, key), ref)
		if keyErr != nil || again.Equal(key) {
			return err // what the backend said about the key says more
		}
		return call(ctx, again)
	}
	// docs:end
	fmt.Println(withKey(context.Background(), "env:SHED_API_KEY", call))
	// Output:
	// <nil>
}

// A handle carries what the adapter needs to find its resource again. Its JSON is what stores keep.
func ExampleNewHandle() {
	type state struct {
		ContainerID string `json:"container_id"`
	}
	h, err := sandboxer.NewHandle(sandboxer.HandleRef{ID: "build-42", Attempt: 2, Extension: "ext.docker"}, 1, state{"c0ffee"})
	if err != nil {
		panic(err)
	}
	text, err := h.MarshalJSON()
	fmt.Println(string(text), err)

	var s state
	err = h.State(&s)
	fmt.Println(h.Ref().Name(), s.ContainerID, err)
	// Output:
	// {"sandbox_id":"build-42","extension":"ext.docker","attempt":2,"v":1,"state_version":1,"state":{"container_id":"c0ffee"}} <nil>
	// build-42-2 c0ffee <nil>
}

// Whoever wants to know how far a call has come says so in its context.
func ExampleWithProgress() {
	upload := func(ctx context.Context) { // somewhere in an adapter
		for done := int64(64); done <= 128; done += 64 {
			sandboxer.Report(ctx, sandboxer.Progress{Stage: "upload", Done: done, Total: 128, Unit: "bytes"})
		}
	}
	upload(sandboxer.WithProgress(context.Background(), func(p sandboxer.Progress) {
		fmt.Printf("%s %d/%d %s\n", p.Stage, p.Done, p.Total, p.Unit)
	}))
	// Output:
	// upload 64/128 bytes
	// upload 128/128 bytes
}

// As finds what an extension can do beyond the three methods.
func ExampleAs() {
	var ext sandboxer.Extension = full{}
	_, ok := sandboxer.As[sandboxer.Pauser](ext)
	fmt.Println(ok, sandboxer.Capabilities(plain{}))
	// Output:
	// true []
}
