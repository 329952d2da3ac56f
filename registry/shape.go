package registry

import (
	"maps"

	"github.com/sand-boxer/sandboxer"
)

// shape is what a JSON Schema (draft 2020-12) says about a value.
type shape map[string]any

// nullable reports whether a key may stand without a value, as lists and mappings whose last entry was taken out do.
func (s shape) nullable() bool {
	t, ok := s["type"].([]any)
	return ok && len(t) > 0 && t[len(t)-1] == "null"
}

// about returns s with a description, which editors show.
func (s shape) about(text string) shape {
	out := maps.Clone(s)
	out["description"] = text
	return out
}

// orEmpty lets the value be missing.
func (s shape) orEmpty() shape {
	out := maps.Clone(s)
	out["type"] = []any{s["type"], "null"}
	return out
}

func textShape(pattern string) shape {
	s := shape{"type": "string"}
	if pattern != "" {
		s["pattern"] = pattern
	}
	return s
}

func enumShape[S ~string](values []S) shape {
	var all []any
	for _, v := range values {
		all = append(all, string(v))
	}
	return shape{"type": "string", "enum": all}
}

// setShape is a list without duplicates.
func setShape(item shape) shape {
	return shape{"type": "array", "items": item, "uniqueItems": true}
}

// labelsShape is what ValidateLabels takes.
func labelsShape() shape {
	return shape{
		"type": "object", "maxProperties": 32,
		"propertyNames":        shape{"pattern": labelPattern, "not": shape{"pattern": "^" + sandboxer.ReservedLabelPrefix}},
		"additionalProperties": shape{"type": "string", "maxLength": 256, "pattern": oneLinePattern},
	}
}

// inputsShape maps names of inputs to names of inputs.
func inputsShape() shape {
	return shape{"type": "object", "propertyNames": shape{"pattern": inputPattern}, "additionalProperties": textShape(inputPattern)}
}

func dataShape() shape { return shape{"type": "object"} }

func integerShape(least, most int) shape {
	return shape{"type": "integer", "minimum": least, "maximum": most}
}

// cpuShape is a string of the pattern or a number. It names no multiple of 0.001: to an editor, 1.1 is none.
func cpuShape() shape {
	return shape{"type": []any{"string", "number"}, "pattern": cpuPattern, "minimum": 0}
}

// bytesShape is a string of the pattern, or a number that is no forgotten unit.
func bytesShape() shape {
	return shape{"anyOf": []any{
		textShape(bytesPattern), shape{"const": 0}, shape{"type": "integer", "minimum": leastBytes},
	}}
}

// durationShape is a string of the pattern that is longer than 0.
func durationShape(pattern string) shape {
	return shape{"type": "string", "pattern": pattern, "allOf": []any{shape{"pattern": notZeroPattern}}}
}

// mappingShape is the mapping that a table decodes.
func mappingShape[T any](keys []key[T]) shape {
	properties, required := map[string]any{}, []any{}
	for _, k := range keys {
		properties[k.name] = k.shape
		if k.required {
			required = append(required, k.name)
		}
	}
	s := shape{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}
