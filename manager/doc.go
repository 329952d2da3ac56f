// Package manager is what a host application talks to: a Manager makes sandboxes by profile, on the host application's own
// hosts first and elsewhere when they are full, keeps a durable intent of everything before it exists, and takes it away
// again whatever crashes in between.
//
//	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: st})
//	…
//	defer m.Close()
//	sb, err := m.Create(ctx, sandboxer.CreateRequest{Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "ci"}})
//	…
//	defer sb.Teardown(ctx)
//	out, err := sb.Output(ctx, "go", "version")
//
// Every error is a [*sandboxer.Error] and carries a code. All methods are safe for concurrent use. Every wait ends with its
// context; what has been created is then removed under a context of its own, bounded by Config.TeardownTimeout.
package manager
