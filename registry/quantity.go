package registry

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// What the quantities look like, for the parsers and for the JSON Schemas.
const (
	cpuPattern      = `^[0-9]+(\.[0-9]+)?m?$`
	bytesPattern    = `^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$`
	durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	ttlPattern      = `^(none|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	moneyPattern    = `^[0-9]+(\.[0-9]{1,9})? [A-Z]{3}$`
	notZeroPattern  = `[1-9]|none` // in a duration
)

const maxQuantity = 64 // characters

var (
	cpuFormat      = regexp.MustCompile(cpuPattern)
	bytesFormat    = regexp.MustCompile(bytesPattern)
	durationFormat = regexp.MustCompile(durationPattern)
	moneyFormat    = regexp.MustCompile(moneyPattern)
	plainNumber    = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	bareNumber     = regexp.MustCompile(`^[0-9]+$`)
	numberAndUnit  = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)$`)
)

// parseCPU reads "2", "1.5" or "500m" as thousandths of a CPU.
func parseCPU(s string) (int64, error) {
	if len(s) > maxQuantity || !cpuFormat.MatchString(s) {
		return 0, fmt.Errorf("%s is no number of CPUs; write it as 2, 1.5 or 500m", quote(s))
	}
	number, milli := strings.CutSuffix(s, "m")
	unit := int64(1000)
	if milli {
		unit = 1
	}
	n, err := exactly(number, unit)
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number of thousandths of a CPU, or too many", quote(s))
	}
	return n, nil
}

// byteUnits are the suffixes of amounts of bytes.
func byteUnits() map[string]int64 {
	return map[string]int64{
		"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
	}
}

// leastBytes is the smallest amount of memory or disk that is believed: less is a forgotten unit.
const leastBytes = 1 << 20

// parseBytes reads "4Gi", "512Mi", "10G" or plain bytes.
func parseBytes(s string) (int64, error) {
	if len(s) > maxQuantity || !bytesFormat.MatchString(s) {
		return 0, fmt.Errorf("%s is no amount of bytes; %s", quote(s), cmp.Or(meantBytes(s),
			"write bytes, or a number with Ki, Mi, Gi, Ti, Pi, k, M, G, T or P, such as 4Gi"))
	}
	number := strings.TrimRight(s, "KMGTPik")
	n, err := exactly(number, byteUnits()[s[len(number):]])
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number of bytes, or too many", quote(s))
	}
	if n > 0 && n < leastBytes {
		hint := ""
		if bareNumber.MatchString(s) {
			hint = fmt.Sprintf("; did you mean %q or %q?", s+"Mi", s+"Gi")
		}
		return 0, fmt.Errorf("%s is less than 1Mi%s", quote(s), hint)
	}
	return n, nil
}

// meantBytes guesses what "4GB", "4gib" or "4 Gi" was meant to be.
func meantBytes(s string) string {
	m := numberAndUnit.FindStringSubmatch(s)
	if len(s) > maxQuantity || m == nil {
		return ""
	}
	unit := strings.TrimSuffix(strings.ToLower(m[2]), "b")
	for u := range byteUnits() {
		if u != "" && strings.ToLower(u) == unit {
			return fmt.Sprintf("did you mean %q?", m[1]+u)
		}
	}
	return ""
}

// exactly multiplies a plain decimal number, without ever rounding.
func exactly(number string, unit int64) (int64, error) {
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errors.New("not a decimal number")
	}
	r.Mul(r, new(big.Rat).SetInt64(unit))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, errors.New("not a whole number of 63 bits")
	}
	return r.Num().Int64(), nil
}

// parseDuration reads "90s", "1h30m", always with a unit and longer than 0.
func parseDuration(s string) (time.Duration, error) {
	if len(s) > maxQuantity || !durationFormat.MatchString(s) {
		return 0, fmt.Errorf("%s is no duration; %s", quote(s), cmp.Or(meantDuration(s), "write it as 90s, 30m or 1h30m"))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%s is too long a duration", quote(s))
	}
	if d == 0 {
		return 0, errors.New("must be longer than 0; leave the key out for the default")
	}
	return d, nil
}

func meantDuration(s string) string {
	if len(s) > maxQuantity {
		return ""
	}
	if bareNumber.MatchString(s) {
		return fmt.Sprintf("did you mean %q?", s+"s")
	}
	m := numberAndUnit.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	unit := strings.ToLower(m[2])
	for _, u := range []struct {
		short string
		long  []string
	}{
		{"s", []string{"sec", "secs", "second", "seconds"}},
		{"m", []string{"min", "mins", "minute", "minutes"}},
		{"h", []string{"hr", "hrs", "hour", "hours"}},
	} {
		if unit == u.short || slices.Contains(u.long, unit) {
			return fmt.Sprintf("did you mean %q?", m[1]+u.short)
		}
	}
	if unit == "d" || unit == "day" || unit == "days" {
		if h, err := exactly(m[1], 24); err == nil {
			return fmt.Sprintf("did you mean %q?", fmt.Sprintf("%dh", h))
		}
	}
	return ""
}

// parseTTL is parseDuration, and "none" for a sandbox without an end.
func parseTTL(s string) (time.Duration, error) {
	if s == "none" {
		return sandboxer.NoTTL, nil
	}
	if strings.HasPrefix(s, "-") || s == "0" || s == "0s" {
		return 0, fmt.Errorf("must be longer than 0, not %s; leave it out for the Manager's default, and write none for a sandbox without an end", quote(s))
	}
	return parseDuration(s)
}

// parseMoney is sandboxer.ParseMoney for what may not be negative.
func parseMoney(s string) (*sandboxer.Money, error) {
	if len(s) > maxQuantity || !moneyFormat.MatchString(s) {
		return nil, fmt.Errorf("%s is no amount of money; write it as 0.50 USD", quote(s))
	}
	m, err := sandboxer.ParseMoney(s)
	if err != nil {
		return nil, fmt.Errorf("%s is too large an amount of money", quote(s))
	}
	return &m, nil
}
