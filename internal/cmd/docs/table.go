package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/all"
	"github.com/sand-boxer/sandboxer/registry"
)

// column is one extension of the table.
type column struct {
	manifest registry.Manifest
	hosted   bool
	profiles []string
	can      []sandboxer.Capability
}

// table writes what each adapter of this module supports. It builds each one and asks it, so that the table can claim
// nothing that the code does not have.
func table(ctx context.Context) (string, error) {
	cols, err := columns(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	row := func(name string, cell func(column) string) {
		b.WriteString("| " + name + " |")
		for _, c := range cols {
			b.WriteString(" " + cell(c) + " |")
		}
		b.WriteString("\n")
	}
	row("", func(c column) string {
		return "[" + c.manifest.Handler + "](adapters/" + directory(c.manifest.Handler) + ")"
	})
	b.WriteString("|---|" + strings.Repeat("---|", len(cols)) + "\n")
	row("extension", func(c column) string { return "`" + c.manifest.ID + "`" })
	row("profiles that come along", func(c column) string { return strings.Join(c.profiles, ", ") })
	row("isolation", func(c column) string { return words(c.manifest.Capabilities.IsolationLevels) })
	row("pricing", func(c column) string { return string(c.manifest.Capabilities.PricingModel) })
	row("placed on your hosts", func(c column) string { return tick(c.hosted) })
	for _, capability := range sandboxer.AllCapabilities() {
		row(string(capability), func(c column) string { return tick(slices.Contains(c.can, capability)) })
	}
	return b.String(), nil
}

func columns(ctx context.Context) ([]column, error) {
	reg, err := registry.New(registry.WithAdapters(all.Adapters()...))
	if err != nil {
		return nil, err
	}
	var cols []column
	for m := range reg.Manifests() {
		a, err := reg.Adapter(m.Handler)
		if err != nil {
			return nil, err
		}
		ext, err := a.New(ctx, sandboxer.Settings{ExtensionID: m.ID, Config: m.Config, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.ID, err)
		}
		c := column{manifest: m, hosted: a.Hosted, can: sandboxer.Capabilities(ext)}
		for p := range reg.Profiles() {
			if p.Extension == m.ID {
				c.profiles = append(c.profiles, "`"+p.ID+"`")
			}
		}
		cols = append(cols, c)
	}
	return cols, nil
}

// directory is where the adapter of a handler lies: a package's name has no hyphen.
func directory(handler string) string { return strings.ReplaceAll(handler, "-", "") }

func words[T ~string](list []T) string {
	var s []string
	for _, v := range list {
		s = append(s, string(v))
	}
	return strings.Join(s, ", ")
}

func tick(yes bool) string {
	if yes {
		return "✓"
	}
	return ""
}
