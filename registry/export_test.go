package registry

import (
	"reflect"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// Schemas are the JSON Schemas that follow from the tables of the decoder and from the types of the catalogue.
func Schemas() map[string]any {
	top := func(s shape, name, title string) any {
		s["$schema"] = draft
		s["$id"] = "https://github.com/sand-boxer/sandboxer/blob/main/docs/schema/" + name + ".schema.json"
		s["title"] = title
		return s
	}
	return map[string]any{
		"manifest":  top(mappingShape(manifestKeys()), "manifest", "sandboxer manifest: extensions/ext.<name>.yaml"),
		"profile":   top(mappingShape(profileKeys()), "profile", "sandboxer profile: profiles/profile.<slug>.yaml"),
		"catalogue": top(typeShape(reflect.TypeFor[catalogue]()), "catalogue", "sandboxer catalogue, as Registry.WriteCatalogue writes it"),
	}
}

// typeShape is what encoding/json makes of a type.
func typeShape(t reflect.Type) shape {
	switch t {
	case reflect.TypeFor[sandboxer.IsolationLevel]():
		return enumShape(sandboxer.IsolationLevels())
	case reflect.TypeFor[sandboxer.PricingModel]():
		return enumShape(sandboxer.PricingModels())
	case reflect.TypeFor[sandboxer.Capability]():
		return enumShape(sandboxer.AllCapabilities())
	case reflect.TypeFor[sandboxer.Code]():
		return enumShape(codes())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeShape(t.Elem())
	case reflect.String:
		return shape{"type": "string"}
	case reflect.Bool:
		return shape{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return shape{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return shape{"type": "array", "items": typeShape(t.Elem())}
	case reflect.Map:
		return shape{"type": "object", "additionalProperties": typeShape(t.Elem())}
	case reflect.Struct:
		properties, required := map[string]any{}, []any{}
		for _, f := range reflect.VisibleFields(t) {
			name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			properties[name] = typeShape(f.Type)
			if name == "format" {
				properties[name] = shape{"const": catalogueFormat}
			}
			if rest == "" {
				required = append(required, name)
			}
		}
		return shape{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
	}
	panic("the catalogue holds a " + t.String())
}

// The parsers, for their fuzz targets.
var (
	HandlerName   = handlerName
	ParseCPU      = parseCPU
	ParseBytes    = parseBytes
	ParseDuration = parseDuration
	ParseTTL      = parseTTL
	ParseMoney    = parseMoney
	LooksLikeRef  = looksLikeRef
)

// SecretName reports whether a key's name says that its value is a secret, whatever it is.
func SecretName(name string) bool { return kindOfValue(name, plainValue) == secretValue }
