// Package operations tells tests which calls of an extension there are, so that none is forgotten.
package operations

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"

	"github.com/sand-boxer/sandboxer"
)

// In reads the constants of type Op from the source of the root package, which lies at root. It is an error where there are none.
func In(root string) ([]sandboxer.Op, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "extension.go"), nil, 0)
	if err != nil {
		return nil, err
	}
	var out []sandboxer.Op
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != "Op" {
			return true
		}
		for _, v := range spec.Values {
			lit, ok := v.(*ast.BasicLit)
			if !ok {
				err = errors.New("an Op is not declared by a literal")
				return false
			}
			text, badText := strconv.Unquote(lit.Value)
			err = errors.Join(err, badText)
			out = append(out, sandboxer.Op(text))
		}
		return true
	})
	if err == nil && len(out) == 0 {
		err = errors.New("extension.go declares no Op")
	}
	return out, err
}
