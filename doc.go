// Package sandboxer is one contract over many sandbox backends: your own hosts first, a paid cloud when they are full, and
// never a leaked or unaccounted sandbox. It is to sandboxes what database/sql is to databases. This package holds the
// contract and uses the standard library only; what implements it lies in the packages beside it.
//
// # For the author of a host application
//
// Build a registry from adapters and from your own manifests and profiles, open a store, and make a Manager of both. A
// profile names a recipe; a Manager turns a [CreateRequest] for it into a sandbox that is ready, or leaves nothing behind:
//
//	reg, err := registry.New(registry.WithAdapters(all.Adapters()...), registry.WithFS(os.DirFS("sandboxes")))
//	st, err := boltstore.Open(ctx, "sandboxes.db")
//	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: st})
//	sb, err := m.Create(ctx, sandboxer.CreateRequest{Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "ci"}})
//	defer sb.Teardown(ctx)
//	out, err := sb.Output(ctx, "go", "version")
//
// Act on errors by their code, errors.Is(err, sandboxer.ResourceExhausted), and read [SandboxStatus] for everything else
// that can be known. Give an [ID] of your own and a create can be repeated safely: the same request under the same ID is
// the same sandbox. Keep a credential in a [SecretSource] and write its [SecretRef] into manifests and inputs; a [Secret]
// prints as "[redacted]" wherever it is printed. Follow long calls with [WithProgress].
//
// # For the author of an adapter
//
// An adapter turns a backend into an [Extension]: Provision, WaitReady, Teardown. What the backend can do beyond that it
// says by implementing further interfaces, one for each [Capability], from [Executor] to [Meterer]; [As] finds them. Register
// it as an [Adapter], plain data with the manifest and the profiles that come with it. The rules stand in the comments of
// the interfaces; the three that matter most:
//
//   - Every resource is called [ProvisionRequest].Name, and everything can be found again by that name, because after a
//     lost reply or a crash nothing else is known. What carries the name and another [LabelOwner] is never touched.
//   - Errors are classified where they are returned: [Mark] with a [Code], and [Refused] only where it is certain that
//     nothing was created. Without that certainty the Manager looks by name before it tries anything else.
//   - A [Handle] holds what the adapter needs to find the resource again, versioned and without secrets. It outlives the
//     process and the release that wrote it.
//
// docs/extension-sdk.md is the guide, and package adaptertest proves that an adapter keeps the rules.
//
// # For the tester of a host application
//
// Nothing in a test needs a real backend. Package fake is one in memory, with faults on demand, that can stand in for the
// handlers of your own manifests; at the end of a test it says what leaked. Package mock has a generated mock of each
// interface, for tests of single calls. Times are injected by testing/synctest: nothing here keeps a clock of its own.
//
// # Terms
//
// An extension is a configured backend, known by an id such as "ext.local". An adapter is the Go code that serves a handler,
// the name by which a manifest ("extensions/ext.<name>.yaml") asks for it. A profile ("profiles/profile.<slug>.yaml") is a
// recipe for sandboxes of one extension. A host is where a self-hosted sandbox is put. A consumer is on whose behalf it
// exists, and a payer whose key it is bought with. To burst is to go elsewhere when the profile's own extension cannot serve.
package sandboxer
