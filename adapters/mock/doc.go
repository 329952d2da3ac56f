// Package mock holds generated mocks (go.uber.org/mock) of what host applications and adapter authors stand in for: the
// [sandboxer.Extension], one for each capability, the source of secrets and the store. Where a test needs a backend that
// behaves rather than calls that are expected one by one, the package fake is less work.
//
// # An extension with capabilities
//
// The library finds capabilities by asking a value for its methods, so an extension that has some is a struct of mocks:
//
//	type backend struct {
//		*mock.MockExtension
//		*mock.MockExecutor
//		*mock.MockFinder
//	}
//
// It has exactly these capabilities and no other. Expectations are set on its parts: b.MockExecutor.EXPECT().Exec(…). To
// hand it to a Manager, return it from the New of a [sandboxer.Adapter].
package mock

//go:generate go tool -modfile=../../tools/go.mod mockgen -typed -write_command_comment=false -write_package_comment=false -package mock -destination extension.go github.com/sand-boxer/sandboxer Extension,Finder,Lister,Executor,FileTransferer,Dialer,Exposer,Snapshotter,SnapshotTransferer,SnapshotMover,Meterer,SnapshotPricer,Inspector,Extender,Pauser,Preflighter,Syncer
//go:generate go tool -modfile=../../tools/go.mod mockgen -typed -write_command_comment=false -write_package_comment=false -package mock -destination secrets.go github.com/sand-boxer/sandboxer SecretSource
//go:generate go tool -modfile=../../tools/go.mod mockgen -typed -write_command_comment=false -write_package_comment=false -package mock -destination store.go github.com/sand-boxer/sandboxer/manager/store Store
