package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// sprintf keeps a format without arguments as it is.
func sprintf(format string, args ...any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

func sortedKeys(m map[string]any) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func sortedStrings(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// copier copies inputs into what YAML and JSON know: map[string]any, []any, string, bool, numbers and nil. Durations become
// strings such as "10s" and every string type a string, so that an adapter finds the same whoever wrote the inputs, and a
// store keeps them without loss.
type copier struct {
	report func(at path, text string)
	nodes  int
}

// inputs copies in; nil stays nil.
func (c *copier) inputs(at path, in sandboxer.Inputs) sandboxer.Inputs {
	if in == nil {
		return nil
	}
	out, _ := c.value(at, reflect.ValueOf(map[string]any(in)), 1).(map[string]any)
	return out
}

func (c *copier) value(at path, v reflect.Value, depth int) any {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil
	}
	c.nodes++
	switch {
	case depth > maxDepth:
		c.report(at, sprintf("nested more than %d levels deep", maxDepth))
		return nil
	case c.nodes > maxNodes:
		if c.nodes == maxNodes+1 {
			c.report(at, sprintf("more than %d values", maxNodes))
		}
		return nil
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case json.Number:
		if _, err := strconv.ParseFloat(string(x), 64); err != nil {
			c.report(at, "is not a number")
			return nil
		}
		return x
	case sandboxer.Secret:
		c.report(at, "is a Secret; inputs hold a SecretRef, which names one")
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return int(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Uint() <= math.MaxInt {
			return int(v.Uint())
		}
		return v.Uint()
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
		c.report(at, "is not a finite number")
		return nil
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return c.mapping(at, v, depth)
		}
	case reflect.Slice, reflect.Array:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			if c.nodes > maxNodes {
				break
			}
			out = append(out, c.value(at.with(i), v.Index(i), depth+1))
		}
		return out
	}
	c.report(at, sprintf("is a %v; inputs are strings, numbers, booleans, lists and mappings with string keys", v.Type()))
	return nil
}

func (c *copier) mapping(at path, v reflect.Value, depth int) any {
	out := make(map[string]any, v.Len())
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	for _, k := range keys {
		if c.nodes > maxNodes {
			break
		}
		out[k.String()] = c.value(at.with(k.String()), v.MapIndex(k), depth+1)
	}
	return out
}

func cloneManifest(m Manifest) Manifest {
	m.Capabilities.IsolationLevels = slices.Clone(m.Capabilities.IsolationLevels)
	m.Capabilities.Features = slices.Clone(m.Capabilities.Features)
	m.Inputs.Required = slices.Clone(m.Inputs.Required)
	m.Inputs.Optional = slices.Clone(m.Inputs.Optional)
	m.Config = own.Inputs(m.Config)
	return m
}

func cloneAdapter(a sandboxer.Adapter) sandboxer.Adapter {
	a.Manifest = slices.Clone(a.Manifest)
	a.Credentials = slices.Clone(a.Credentials)
	a.Profiles = slices.Clone(a.Profiles)
	for i := range a.Profiles {
		a.Profiles[i] = slices.Clone(a.Profiles[i])
	}
	return a
}
