//go:build !linux

package policy_test

import "time"

// spent is a clock.
func spent() time.Duration { return time.Duration(time.Now().UnixNano()) }
