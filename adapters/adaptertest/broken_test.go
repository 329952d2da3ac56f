package adaptertest

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// canaryKey is a credential that must never be seen. It is none of internal/canary's: some adapters here show it on purpose.
const canaryKey = "canary-of-the-conformance-suite"

type oneKey struct{}

func (oneKey) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{Key: "v1"}, nil
}

func (oneKey) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	return sandboxer.NewSecret([]byte(canaryKey), "v1"), nil
}

// onFake is the suite's configuration for a fake backend.
func onFake(b *fake.Backend, caps ...sandboxer.Capability) Config {
	return Config{
		Adapter: func(testing.TB) sandboxer.Adapter { return b.Adapter(caps...) },
		Secrets: oneKey{},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.fake", Extension: "ext.fake"}
		},
		Live:   func(testing.TB) []string { return b.Live() },
		Bad:    []sandboxer.Inputs{{"files": "one"}},
		Listen: func(port int) []string { return []string{"nc", "-l", "-k", "-p", strconv.Itoa(port), "-e", "cat"} },
		Within: 2 * time.Second,
	}
}

// rules says which checks must notice a broken rule.
var rules = map[fake.Quirk]struct {
	checks    []string
	behaviour fake.Behaviour
	caps      []sandboxer.Capability
}{
	fake.CreatesTwice:         {checks: []string{"provision/idempotent", "provision/concurrent"}},
	fake.ForgetsName:          {checks: []string{"provision/idempotent"}},
	fake.StealsForeign:        {checks: []string{"foreign/provision", "foreign/manager"}},
	fake.BadInputsCreate:      {checks: []string{"inputs/bad"}},
	fake.AcceptsBadInputs:     {checks: []string{"inputs/bad"}},
	fake.ReadyTooEarly:        {checks: []string{"wait-ready/usable"}, behaviour: fake.Behaviour{ReadyAfter: 200 * time.Millisecond}},
	fake.ReadyOnce:            {checks: []string{"wait-ready/repeated"}},
	fake.TeardownLies:         {checks: []string{"teardown/removes", "teardown/by-name", "teardown/manager", "end/nothing-live"}},
	fake.TeardownOnce:         {checks: []string{"teardown/idempotent", "teardown/never-created"}},
	fake.TeardownNeedsState:   {checks: []string{"teardown/by-name"}},
	fake.TeardownForeign:      {checks: []string{"foreign/teardown"}},
	fake.TeardownLeavesQuiet:  {checks: []string{"teardown/removes"}},
	fake.HandleNeedsInstance:  {checks: []string{"handle/second-instance"}},
	fake.FindCreates:          {checks: []string{"find/absent"}},
	fake.FindForeign:          {checks: []string{"foreign/find"}},
	fake.FindMisses:           {checks: []string{"find/exists", "lost-reply/adopted"}},
	fake.ListsForeign:         {checks: []string{"foreign/list"}},
	fake.ListMisses:           {checks: []string{"list/ours"}},
	fake.ListDropsLabels:      {checks: []string{"list/ours"}},
	fake.InspectLies:          {checks: []string{"inspect/state"}},
	fake.InspectNeverGone:     {checks: []string{"inspect/state"}},
	fake.InspectWrongState:    {checks: []string{"pause/idempotent"}},
	fake.ExtendShortens:       {checks: []string{"lifetime/extend"}},
	fake.ExtendLies:           {checks: []string{"lifetime/extend"}},
	fake.IgnoresExpiry:        {checks: []string{"lifetime/granted"}},
	fake.PauseTwiceFails:      {checks: []string{"pause/idempotent"}},
	fake.PauseLosesFiles:      {checks: []string{"pause/contents"}},
	fake.ExecLosesTail:        {checks: []string{"exec-io/binary", "exec-io/flood"}},
	fake.ExecMergesStreams:    {checks: []string{"exec-io/separate"}},
	fake.ExecReorders:         {checks: []string{"exec-io/flood"}},
	fake.ExecLosesExitCode:    {checks: []string{"exec/exit-codes"}},
	fake.ExecExitIsError:      {checks: []string{"exec/exit-codes"}},
	fake.ExecIgnoresTimeout:   {checks: []string{"exec-kill/timeout", "exec-kill/stubborn", "exec-kill/detached"}},
	fake.ExecIgnoresDir:       {checks: []string{"exec/directory"}},
	fake.ExecIgnoresEnv:       {checks: []string{"exec/environment"}},
	fake.ExecIgnoresStdin:     {checks: []string{"exec-io/binary"}},
	fake.ExecWaitsForStdin:    {checks: []string{"exec-io/stdin-blocks"}},
	fake.ExecWaitsForChildren: {checks: []string{"exec-kill/background"}},
	fake.ExecKillsChildren:    {checks: []string{"exec-kill/background"}},
	fake.ExecJoinsArgs:        {checks: []string{"exec-args/text"}},
	fake.ExecMangles:          {checks: []string{"exec-io/binary", "exec-args/invalid-utf8"}},
	fake.ExecIgnoresWriteErr:  {checks: []string{"exec-io/write-error"}},
	fake.ExecLeavesProcess:    {checks: []string{"exec-kill/cancel"}},
	fake.CopyDropsModes:       {checks: []string{"files/round-trip", "files/manager"}},
	fake.CopyDropsTimes:       {checks: []string{"files/round-trip"}},
	fake.CopyDropsEmpty:       {checks: []string{"files/round-trip"}},
	fake.CopyFollowsLinks:     {checks: []string{"links/stay-links", "links/not-through"}},
	fake.CopyCutsBinary:       {checks: []string{"files/round-trip", "files/single"}},
	fake.CopyOtherWorld:       {checks: []string{"world/copies-seen", "world/commands-seen"}},
	fake.CopyNeedsDir:         {checks: []string{"files/overwrite"}},
	fake.SyncKeepsExtra:       {checks: []string{"sync/equal"}},
	fake.SyncReadsAll:         {checks: []string{"sync/incremental"}},
	fake.SyncFollowsLinks:     {checks: []string{"sync/links"}},
	fake.SyncNeedsDir:         {checks: []string{"sync/missing-dst"}},
	fake.DialAnything:         {checks: []string{"dial/nobody"}},
	fake.SnapshotForgotten:    {checks: []string{"snapshot/idempotent"}},
	fake.SnapshotLosesFiles:   {checks: []string{"snapshot/round-trip"}},
	fake.SnapshotsUnlisted:    {checks: []string{"snapshot/listed"}},
	fake.SnapshotDeleteLies:   {checks: []string{"snapshot/delete", "snapshot/delete-by-id"}},
	fake.SnapshotDeleteOnce:   {checks: []string{"snapshot/delete"}},
	fake.SnapshotNeedsState:   {checks: []string{"snapshot/delete-by-id", "lost-reply/snapshot"}},
	fake.SnapshotDiesToo:      {checks: []string{"snapshot/outlives"}},
	fake.ImportUnverified:     {checks: []string{"transfer/verified"}},
	fake.MeterFalls:           {checks: []string{"meter/cumulative"}},
	fake.MeterForgets:         {checks: []string{"meter/final"}},
	fake.MeterNeverFinal:      {checks: []string{"meter/final"}},
	fake.MeterWrongSum:        {checks: []string{"meter/cumulative"}},
	fake.SnapshotPriceFalls:   {checks: []string{"meter/snapshots"}},
	fake.EstimateCreates:      {checks: []string{"meter/estimate"}},
	fake.PreflightCreates:     {checks: []string{"inputs/preflight"}},
	fake.UndeclaredCapability: {checks: []string{"capabilities/declared"}, caps: []sandboxer.Capability{sandboxer.CapFind}},
	fake.MissingCapability:    {checks: []string{"capabilities/declared"}},
	fake.IgnoresContext:       {checks: []string{"cancel/before"}},
	fake.HandleHoldsSecret:    {checks: []string{"provision/handle", "end/no-secret-shown"}, behaviour: fake.Behaviour{Credential: "env:CANARY"}},
	fake.ErrorHoldsSecret:     {checks: []string{"secrets/wrong", "end/no-secret-shown"}, behaviour: fake.Behaviour{Credential: "env:CANARY"}},
	fake.Unclassified:         {checks: []string{"exec/gone", "inspect/state", "inputs/bad", "find/absent"}},
}

// TestBrokenRules breaks one rule at a time and expects the check of that rule to fail, and to say why.
func TestBrokenRules(t *testing.T) {
	t.Parallel()
	for _, q := range quirks(t) {
		t.Run(string(q), func(t *testing.T) {
			t.Parallel()
			rule, ok := rules[q]
			if !ok {
				t.Fatalf("no check is known to notice that %s", q)
			}
			b := fake.New()
			b.Behave(rule.behaviour)
			b.Revoke("wrong") // what the suite calls the key that it makes up
			b.Break(q)
			expectFailures(t, judge(t, onFake(b, rule.caps...), rule.checks...), string(q))
		})
	}
}

// quirks reads all of them from the fake's source: a new one without a check must be noticed.
func quirks(t *testing.T) []fake.Quirk {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../fake/quirk.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []fake.Quirk
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Quirk" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fake.Quirk(text))
		}
		return true
	})
	if len(out) < 50 {
		t.Fatalf("only %d quirks were found", len(out))
	}
	return out
}

// TestBentExtensions breaks rules with wrappers around the fake.
func TestBentExtensions(t *testing.T) {
	t.Parallel()
	for _, broken := range breakages() {
		t.Run(broken.what, func(t *testing.T) {
			t.Parallel()
			b := fake.New()
			b.Behave(broken.behaviour)
			b.Break(broken.quirks...)
			cfg := onFake(b, broken.caps...)
			cfg.Within = time.Second
			cfg.Adapter = func(testing.TB) sandboxer.Adapter {
				a := b.Adapter(broken.caps...)
				if broken.adapt != nil {
					broken.adapt(&a)
				}
				if broken.wrap != nil {
					build := a.New
					a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
						ext, err := build(ctx, s)
						if err != nil {
							return nil, err
						}
						return broken.wrap(ext), nil
					}
				}
				return a
			}
			expectFailures(t, judge(t, cfg, broken.checks...), broken.what)
		})
	}
}

func expectFailures(t *testing.T, got map[string]verdict, although string) {
	t.Helper()
	for name, v := range got {
		if !v.failed {
			t.Errorf("%s passed, although %s", name, although)
		} else if !strings.Contains(v.said, "\trule: ") || !strings.Contains(v.said, "\twhy:  ") {
			t.Errorf("%s says neither which rule was broken nor why there is one:\n%s", name, v.said)
		}
	}
}

// TestEveryCheckCanFail: a check that nothing makes fail proves nothing.
func TestEveryCheckCanFail(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{"end/no-goroutine": true} // by TestRunReports
	for _, r := range rules {
		for _, name := range r.checks {
			shown[name] = true
		}
	}
	for _, b := range breakages() {
		for _, name := range b.checks {
			shown[name] = true
		}
	}
	seen := map[string]bool{}
	for _, c := range slices.Concat(checks(), endChecks()) {
		switch {
		case seen[c.name]:
			t.Errorf("two checks are called %s", c.name)
		case c.rule == "" || c.why == "" || strings.Count(c.name, "/") != 1:
			t.Errorf("%s has no rule, no reason, or a name without a group", c.name)
		case !shown[c.name]:
			t.Errorf("nothing shows that %s can fail", c.name)
		}
		seen[c.name] = true
	}
}
