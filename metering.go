package sandboxer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Meterer prices sandboxes. An extension whose pricing_model is "metered" must be one; checked when the Manager is built.
type Meterer interface {
	// EstimateCost prices a sandbox of p that lives for d. It asks no backend and creates nothing.
	EstimateCost(ctx context.Context, p Profile, d time.Duration) (MeterQuote, error)
	// MeterActual is cumulative since Provision, never falls, and answers after Teardown too, then with Final.
	MeterActual(ctx context.Context, t Target) (MeterReading, error)
}

// SnapshotPricer prices stored snapshots, for an extension that is a Meterer and a Snapshotter. Where such an extension is
// none, how long it kept how much is recorded without a price.
type SnapshotPricer interface {
	// SnapshotCost prices keeping s between two instants. It asks no backend, and parts of a time cost together what the
	// whole costs, but for rounding.
	SnapshotCost(ctx context.Context, s Snapshot, from, to time.Time) ([]MeterLine, error)
}

// Money is an exact amount: integer billionths of an ISO 4217 currency, at most about nine billion units. The zero Money
// is nothing in no currency and adds to any. Money compares with ==.
type Money struct {
	nanos    int64
	currency string
}

const nanosPerUnit = 1_000_000_000

var errMoneyRange = errors.New("beyond the range of sandboxer.Money (9,223,372,036 units)")

// NewMoney makes an amount of nanos billionths of currency ("USD").
func NewMoney(nanos int64, currency string) (Money, error) {
	if len(currency) != 3 || strings.ToUpper(currency) != currency || strings.Trim(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return Money{}, Mark(InvalidArgument, fmt.Errorf("currency %q is not an ISO 4217 code like USD", clip(currency)))
	}
	return Money{nanos: nanos, currency: currency}, nil
}

// ParseMoney reads "0.50 USD", with at most nine decimals.
func ParseMoney(s string) (Money, error) {
	amount, currency, ok := strings.Cut(s, " ")
	bad := func(why string) (Money, error) {
		return Money{}, Mark(InvalidArgument, fmt.Errorf("amount of money %q %s; write it as \"0.50 USD\"", clip(s), why))
	}
	if !ok {
		return bad("has no currency")
	}
	digits, negative := strings.CutPrefix(amount, "-")
	whole, frac, point := strings.Cut(digits, ".")
	if whole == "" || (point && frac == "") || strings.Trim(whole+frac, "0123456789") != "" {
		return bad("has no plain decimal number")
	}
	if len(frac) > 9 {
		return bad("has more than nine decimals")
	}
	frac += strings.Repeat("0", 9-len(frac))
	var nanos uint64
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	for _, c := range strings.TrimLeft(whole, "0") + frac {
		hi, lo := bits.Mul64(nanos, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if hi != 0 || carry != 0 || sum > limit {
			return bad("is " + errMoneyRange.Error())
		}
		nanos = sum
	}
	n := int64(nanos)
	if negative {
		n = -n
	}
	m, err := NewMoney(n, currency)
	if err != nil {
		return Money{}, err
	}
	return m, nil
}

// Nanos returns the amount in billionths of the currency.
func (m Money) Nanos() int64 { return m.nanos }

// Currency returns the ISO 4217 code, "" for the zero Money.
func (m Money) Currency() string { return m.currency }

// IsZero reports whether m is nothing in no currency; an amount of 0 USD is not.
func (m Money) IsZero() bool { return m == Money{} }

// Add returns the sum. An InvalidArgument where the currencies differ or the sum does not fit.
func (m Money) Add(o Money) (Money, error) {
	currency, err := m.common(o)
	if err != nil {
		return Money{}, err
	}
	sum := m.nanos + o.nanos
	if (sum > m.nanos) != (o.nanos > 0) && o.nanos != 0 {
		return Money{}, Mark(InvalidArgument, fmt.Errorf("%v and %v together are %w", m, o, errMoneyRange))
	}
	return Money{nanos: sum, currency: currency}, nil
}

// Sub returns the difference, under Add's rules.
func (m Money) Sub(o Money) (Money, error) {
	currency, err := m.common(o)
	if err != nil {
		return Money{}, err
	}
	diff := m.nanos - o.nanos
	if (diff < m.nanos) != (o.nanos > 0) && o.nanos != 0 {
		return Money{}, Mark(InvalidArgument, fmt.Errorf("%v less %v is %w", m, o, errMoneyRange))
	}
	return Money{nanos: diff, currency: currency}, nil
}

// common returns the currency of both; the zero Money has any.
func (m Money) common(o Money) (string, error) {
	switch {
	case m.IsZero():
		return o.currency, nil
	case o.IsZero(), m.currency == o.currency:
		return m.currency, nil
	}
	return "", Mark(InvalidArgument, fmt.Errorf("%v and %v are of different currencies", m, o))
}

// Cmp returns -1, 0 or +1. The zero Money compares as 0 of any currency; an InvalidArgument where currencies differ.
func (m Money) Cmp(o Money) (int, error) {
	if _, err := m.common(o); err != nil {
		return 0, err
	}
	switch {
	case m.nanos < o.nanos:
		return -1, nil
	case m.nanos > o.nanos:
		return 1, nil
	}
	return 0, nil
}

// String writes the amount as ParseMoney reads it, with two decimals or as many as it needs.
func (m Money) String() string {
	if m.IsZero() {
		return "0"
	}
	return string(m.append(nil))
}

// append is String without fmt: money is written with every record.
func (m Money) append(b []byte) []byte {
	n := uint64(m.nanos)
	if m.nanos < 0 {
		b, n = append(b, '-'), -n
	}
	b = append(strconv.AppendUint(b, n/nanosPerUnit, 10), '.')
	digits := strconv.AppendUint(make([]byte, 0, 12), nanosPerUnit+n%nanosPerUnit, 10)[1:] // with its leading zeros
	for len(digits) > 2 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	b = append(b, digits...)
	return append(append(b, ' '), m.currency...)
}

// MarshalText writes what String does; the zero Money is empty.
func (m Money) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return m.append(make([]byte, 0, 24)), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *Money) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = Money{}
		return nil
	}
	parsed, err := ParseMoney(string(b))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// MeterLine is one priced quantity.
type MeterLine struct {
	Item      string `json:"item"`   // "cpu", "memory", "flat"
	Unit      string `json:"unit"`   // "vcpu-second", "gib-second", "sandbox"
	Micros    int64  `json:"micros"` // millionths of Unit
	UnitPrice Money  `json:"unit_price"`
	Amount    Money  `json:"amount"` // rounded once, half to even
}

// NewMeterLine prices micros millionths of unit. The amount is exact up to one rounding to a billionth, half to even. An
// InvalidArgument for a negative quantity or price, or an amount that does not fit.
func NewMeterLine(item, unit string, micros int64, unitPrice Money) (MeterLine, error) {
	if micros < 0 || unitPrice.nanos < 0 {
		return MeterLine{}, Mark(InvalidArgument, fmt.Errorf("meter line %s: a quantity of %d µ%s at %v is negative", item, micros, unit, unitPrice))
	}
	hi, lo := bits.Mul64(uint64(micros), uint64(unitPrice.nanos))
	const million = 1_000_000
	if hi >= million {
		return MeterLine{}, Mark(InvalidArgument, fmt.Errorf("meter line %s: %d µ%s at %v is %w", item, micros, unit, unitPrice, errMoneyRange))
	}
	quo, rem := bits.Div64(hi, lo, million)
	up := rem > million/2 || (rem == million/2 && quo%2 == 1)
	if up && quo <= math.MaxInt64 { // beyond that it is refused anyway, and could wrap round
		quo++
	}
	if quo > math.MaxInt64 {
		return MeterLine{}, Mark(InvalidArgument, fmt.Errorf("meter line %s: %d µ%s at %v is %w", item, micros, unit, unitPrice, errMoneyRange))
	}
	return MeterLine{Item: item, Unit: unit, Micros: micros, UnitPrice: unitPrice,
		Amount: Money{nanos: int64(quo), currency: unitPrice.currency}}, nil
}

// SumLines adds the amounts of lines.
func SumLines(lines []MeterLine) (Money, error) {
	var total Money
	for _, l := range lines {
		var err error
		if total, err = total.Add(l.Amount); err != nil {
			return Money{}, err
		}
	}
	return total, nil
}

// MeterQuote is what a sandbox will cost.
type MeterQuote struct {
	Lines     []MeterLine   `json:"lines,omitempty"`
	Total     Money         `json:"total"`
	For       time.Duration `json:"for"`                  // the lifetime that was priced, in nanoseconds
	PriceList string        `json:"price_list,omitempty"` // name and date of the price table
}

// MeterReading is what a sandbox did cost.
type MeterReading struct {
	From  time.Time   `json:"from,omitzero"`
	To    time.Time   `json:"to,omitzero"`
	Lines []MeterLine `json:"lines,omitempty"`
	Total Money       `json:"total"`
	Final bool        `json:"final,omitempty"` // nothing will be added
	// Estimated: the backend did not say, and it was worked out from time and prices, and may be more than it was; or what it
	// said contradicts itself, and its Total is taken.
	Estimated bool `json:"estimated,omitempty"`
}
