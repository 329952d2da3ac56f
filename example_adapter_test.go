package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// docs:begin backend

// shed is the backend of this example: a service that keeps boxes by name, and remembers for its bills those that are gone.
type shed struct {
	mu    sync.Mutex
	boxes map[string]box
}

type box struct {
	number   int
	owner    string
	from, to time.Time // to: zero while it exists
}

// get returns the box of that name, and whether it exists now.
func (s *shed) get(name string) (box, bool) {
	b, known := s.boxes[name]
	return b, known && b.to.IsZero()
}

// live returns the names of the boxes that exist.
func (s *shed) live() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.boxes {
		if _, exists := s.get(name); exists {
			names = append(names, name)
		}
	}
	return names
}

// docs:end

// docs:begin inputs

// shedOptions is the config section of a manifest.
type shedOptions struct {
	Endpoint string
	APIKey   sandboxer.SecretRef // api_key: a reference, never the key
}

// shedInputs are what a profile or a request may say: template, boot.
type shedInputs struct {
	Template string
	Boot     time.Duration
}

// docs:end

// docs:begin registration

const shedManifest = `
id: ext.shed
title: Boxes in a shed
handler: shed
capabilities:
  isolation_levels: [container]
  pricing_model: metered
  features: [find, meter]
inputs:
  optional: [template, boot]
config:
  endpoint: https://shed.example
  api_key: env:SHED_API_KEY
`

const shedProfile = `
id: profile.shed
title: A box in the shed
extension: ext.shed
inputs: {template: plain}
ttl: 30m
`

// ShedAdapter serves manifests with "handler: shed".
func ShedAdapter(backend *shed) sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler:     "shed",
		Manifest:    []byte(shedManifest),
		Profiles:    [][]byte{[]byte(shedProfile)},
		Credentials: []string{"api_key"},
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			var o shedOptions
			if err := s.Config.Decode(&o); err != nil {
				return nil, err
			}
			return &shedExtension{options: o, backend: backend}, nil
		},
	}
}

type shedExtension struct {
	options shedOptions
	backend *shed
}

// docs:end

// docs:begin state

// shedState is what the adapter writes into its handles.
type shedState struct {
	Number int `json:"number"`
}

const shedStateVersion = 1

// docs:end

// docs:begin provision

func (x *shedExtension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	in := shedInputs{Template: "plain"} // defaults first
	if err := req.Inputs.Decode(&in); err != nil {
		return sandboxer.Handle{}, err // InvalidArgument, refused: nothing was created
	}
	if _, err := req.Secret(ctx, x.options.APIKey); err != nil { // fetched when used, and not kept
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if err := ctx.Err(); err != nil { // a real backend's client would see it
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	b, exists := x.backend.get(req.Name)
	switch {
	case exists && b.owner != req.Labels[sandboxer.LabelOwner]:
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("a box called %s belongs to %s", req.Name, b.owner))
	case !exists:
		b = box{number: len(x.backend.boxes) + 1, owner: req.Labels[sandboxer.LabelOwner], from: time.Now()}
		x.backend.boxes[req.Name] = b
	}
	return req.Handle(shedStateVersion, shedState{Number: b.number}) // the same for the same name
}

// docs:end

// docs:begin wait-ready

func (x *shedExtension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.Reachability{}, err
	}
	var s shedState
	if err := t.Handle.State(&s); err != nil {
		return sandboxer.Reachability{}, err
	}
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	if _, exists := x.backend.get(t.Handle.Ref().Name()); !exists {
		return sandboxer.Reachability{}, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("the box %s is gone", t.Handle.Ref().Name()))
	}
	return sandboxer.Reachability{Endpoints: []sandboxer.Endpoint{
		{Name: "web", URL: fmt.Sprintf("%s/boxes/%d", x.options.Endpoint, s.Number), Port: 80},
	}}, nil
}

// docs:end

// docs:begin teardown

func (x *shedExtension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.CleanupReport{}, err
	}
	name := t.Handle.Ref().Name() // all that is certain: the handle may be without state
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	b, exists := x.backend.get(name)
	if owner, known := t.Labels[sandboxer.LabelOwner]; !exists || (known && b.owner != owner) {
		return sandboxer.CleanupReport{}, nil // gone already, or somebody else's: success
	}
	b.to = time.Now()
	x.backend.boxes[name] = b
	return sandboxer.CleanupReport{Removed: []string{"box " + name}}, nil
}

// docs:end

// docs:begin find

func (x *shedExtension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, _ time.Time) (sandboxer.Handle, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.Handle{}, err
	}
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	b, exists := x.backend.get(req.Name)
	if !exists || b.owner != req.Labels[sandboxer.LabelOwner] {
		return sandboxer.Handle{}, sandboxer.Mark(sandboxer.NotFound, errors.New("there is no such box, nor will there be"))
	}
	return req.Handle(shedStateVersion, shedState{Number: b.number})
}

// docs:end

// docs:begin meter

const shedRate = "0.0001 USD" // a box-second, from the price list of 2026-11-01

func shedPrice(d time.Duration) ([]sandboxer.MeterLine, sandboxer.Money, error) {
	rate, err := sandboxer.ParseMoney(shedRate)
	if err != nil {
		return nil, sandboxer.Money{}, err
	}
	line, err := sandboxer.NewMeterLine("box", "box-second", d.Microseconds(), rate)
	return []sandboxer.MeterLine{line}, line.Amount, err
}

func (x *shedExtension) EstimateCost(ctx context.Context, _ sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.MeterQuote{}, err
	}
	lines, total, err := shedPrice(d)
	return sandboxer.MeterQuote{Lines: lines, Total: total, For: d, PriceList: "shed 2026-11-01"}, err
}

func (x *shedExtension) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.MeterReading{}, err
	}
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	b, known := x.backend.boxes[t.Handle.Ref().Name()]
	if owner, asked := t.Labels[sandboxer.LabelOwner]; !known || (asked && b.owner != owner) {
		return sandboxer.MeterReading{Final: true}, nil // it never was, and so it cost nothing
	}
	final := !b.to.IsZero()
	if !final {
		b.to = time.Now()
	}
	lines, total, err := shedPrice(b.to.Sub(b.from))
	return sandboxer.MeterReading{From: b.from, To: b.to, Lines: lines, Total: total, Final: final}, err
}

// docs:end

// An adapter of one's own: registered, used through a Manager, and taken down.
func Example_adapter() {
	ctx := context.Background()
	backend := &shed{boxes: map[string]box{}}
	// docs:begin use
	reg, err := registry.New(registry.WithAdapters(ShedAdapter(backend)))
	// docs:end
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: store.Memory(), Secrets: onlyKey{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = m.Close() }()

	request := sandboxer.CreateRequest{ID: "build-42", Profile: "profile.shed", Consumer: sandboxer.Consumer{ID: "ci"}}
	err = m.Run(ctx, request, func(ctx context.Context, sb *manager.Sandbox) error {
		status, err := sb.Status(ctx)
		if err != nil {
			return err
		}
		fmt.Println(status.ID, status.State, status.Reachability.Endpoints[0].URL, "for at most", status.Quote.Total)
		return nil
	})
	fmt.Println(len(backend.live()), "left", err)

	request.Inputs = sandboxer.Inputs{"templat": "x"}
	request.ID = ""
	_, err = m.Create(ctx, request)
	fmt.Println(errors.Is(err, sandboxer.InvalidArgument))
	// Output:
	// build-42 ready https://shed.example/boxes/1 for at most 0.18 USD
	// 0 left <nil>
	// true
}

// docs:begin only-key

// onlyKey is a SecretSource with one key that the platform pays with.
type onlyKey struct{}

func (onlyKey) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{Key: "2026-01"}, nil
}

func (onlyKey) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	return sandboxer.NewSecret([]byte("key"), "2026-01"), nil
}

// docs:end
