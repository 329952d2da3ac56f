// Package adaptertest proves an adapter: it drives it through a real Manager, and calls its extension directly where a rule
// cannot be seen through the Manager. Adapter authors call it from one test:
//
//	func TestConformance(t *testing.T) {
//		adaptertest.Run(t, adaptertest.Config{
//			Adapter: func(testing.TB) sandboxer.Adapter { return mybackend.Adapter() },
//			Profile: func(testing.TB) sandboxer.Profile {
//				return sandboxer.Profile{ID: "profile.small", Extension: "ext.my-backend"}
//			},
//			Bad: []sandboxer.Inputs{{"template": 7}},
//		})
//	}
//
// Each subtest checks one rule of the contract. When it fails, its message says what was seen, which rule that breaks, and
// why the rule exists. Subtests of capabilities that the adapter does not have are not run. The names of subtests are
// stable: Config.Skip names those that a backend cannot pass, each with the reason.
//
// Commands are run as `sh -c`, and use cat, sleep and printf besides the shell itself: see [Config.Shell].
package adaptertest
