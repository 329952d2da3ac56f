//go:build linux || darwin

package local_test

import "errors"

func hostProgram(_, _ string) error { return errors.New("not yet") }
