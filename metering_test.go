package sandboxer_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sand-boxer/sandboxer"
)

func usd(t testing.TB, nanos int64) sandboxer.Money {
	t.Helper()
	m, err := sandboxer.NewMoney(nanos, "USD")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestParseMoney(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text  string
		nanos int64
		print string
	}{
		{"0.50 USD", 500_000_000, "0.50 USD"},
		{"0.5 USD", 500_000_000, "0.50 USD"},
		{"1 USD", 1_000_000_000, "1.00 USD"},
		{"0 USD", 0, "0.00 USD"},
		{"-0 USD", 0, "0.00 USD"},
		{"000012.30 USD", 12_300_000_000, "12.30 USD"},
		{"0.000000001 USD", 1, "0.000000001 USD"},
		{"-0.000000001 USD", -1, "-0.000000001 USD"},
		{"0.100000000 USD", 100_000_000, "0.10 USD"},
		{"0.123 USD", 123_000_000, "0.123 USD"},
		{"9223372036.854775807 USD", math.MaxInt64, "9223372036.854775807 USD"},
		{"-9223372036.854775807 USD", -math.MaxInt64, "-9223372036.854775807 USD"},
		{"-9223372036.854775808 USD", math.MinInt64, "-9223372036.854775808 USD"},
		{strings.Repeat("0", 100) + "1 USD", 1_000_000_000, "1.00 USD"},
	} {
		got, err := sandboxer.ParseMoney(tc.text)
		if err != nil || got != usd(t, tc.nanos) {
			t.Errorf("ParseMoney(%q) = %v, %v, want %d billionths", tc.text, got, err, tc.nanos)
			continue
		}
		if got.String() != tc.print {
			t.Errorf("%q prints as %q, want %q", tc.text, got, tc.print)
		}
	}
}

func TestParseMoneyRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, say string }{
		{"", "no currency"}, {"0.50", "no currency"}, {"0.50USD", "no currency"}, {"USD", "no currency"},
		{"USD 0.50", "plain decimal number"}, {" USD", "plain decimal number"}, {".5 USD", "plain decimal number"},
		{"5. USD", "plain decimal number"}, {"+5 USD", "plain decimal number"}, {"--5 USD", "plain decimal number"},
		{"- USD", "plain decimal number"}, {"1e3 USD", "plain decimal number"}, {"0x10 USD", "plain decimal number"},
		{"1,000 USD", "plain decimal number"}, {"1_000 USD", "plain decimal number"}, {"1.2.3 USD", "plain decimal number"},
		{"NaN USD", "plain decimal number"}, {"Inf USD", "plain decimal number"}, {"١ USD", "plain decimal number"},
		{"0.0000000001 USD", "nine decimals"},
		{"9223372036.854775808 USD", "range"}, {"-9223372036.854775809 USD", "range"}, {"18446744073.709551616 USD", "range"},
		{"18446744073.709551615 USD", "range"}, {strings.Repeat("9", 10_000) + " USD", "range"},
		{"1 usd", "ISO 4217"}, {"1 US", "ISO 4217"}, {"1 USDT", "ISO 4217"}, {"1  USD", "ISO 4217"}, {"1 USD ", "ISO 4217"},
		{"1 ", "ISO 4217"}, {"1 U$D", "ISO 4217"}, {"1 ÜSD", "ISO 4217"},
	} {
		m, err := sandboxer.ParseMoney(tc.text)
		if !errors.Is(err, sandboxer.InvalidArgument) || !strings.Contains(err.Error(), tc.say) || len(err.Error()) > 300 || !m.IsZero() {
			t.Errorf("ParseMoney(%.40q) = %v, %v, want InvalidArgument that says %q", tc.text, m, err, tc.say)
		}
	}
}

func FuzzParseMoney(f *testing.F) {
	for _, s := range []string{"0.50 USD", "-9223372036.854775808 USD", "1e3 USD", "0.0000000001 EUR", "", "00.10 CHF", "18446744073709551616 USD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := sandboxer.ParseMoney(s)
		if err != nil {
			if !errors.Is(err, sandboxer.InvalidArgument) {
				t.Fatalf("ParseMoney(%q): %v", s, err)
			}
			return
		}
		amount, currency, _ := strings.Cut(s, " ")
		want, ok := new(big.Rat).SetString(amount)
		if !ok || currency != m.Currency() || want.Cmp(big.NewRat(m.Nanos(), 1_000_000_000)) != 0 {
			t.Fatalf("ParseMoney(%q) = %d billionths of %q", s, m.Nanos(), m.Currency())
		}
		if again, err := sandboxer.ParseMoney(m.String()); err != nil || again != m {
			t.Fatalf("ParseMoney(%q) prints as %q, which reads as %v, %v", s, m, again, err)
		}
	})
}

func fits(n *big.Int) bool { return n.IsInt64() }

// TestMoneyArithmetic holds sums, differences and comparisons against math/big.
func TestMoneyArithmetic(t *testing.T) {
	t.Parallel()
	amounts := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1}))
	rapid.Check(t, func(rt *rapid.T) {
		a, b := amounts.Draw(rt, "a"), amounts.Draw(rt, "b")
		x, y := usd(t, a), usd(t, b)
		for _, op := range []struct {
			name string
			do   func(sandboxer.Money) (sandboxer.Money, error)
			want *big.Int
		}{
			{"+", x.Add, new(big.Int).Add(big.NewInt(a), big.NewInt(b))},
			{"-", x.Sub, new(big.Int).Sub(big.NewInt(a), big.NewInt(b))},
		} {
			got, err := op.do(y)
			switch {
			case fits(op.want) && (err != nil || got != usd(t, op.want.Int64())):
				rt.Errorf("%v %s %v = %v, %v", x, op.name, y, got, err)
			case !fits(op.want) && !errors.Is(err, sandboxer.InvalidArgument):
				rt.Errorf("%v %s %v = %v, %v, want InvalidArgument: it does not fit", x, op.name, y, got, err)
			}
		}
		if got, err := x.Cmp(y); err != nil || got != big.NewInt(a).Cmp(big.NewInt(b)) {
			rt.Errorf("%v compared with %v = %d, %v", x, y, got, err)
		}
		if again, err := sandboxer.ParseMoney(x.String()); err != nil || again != x {
			rt.Errorf("%v came back as %v, %v", x, again, err)
		}
		text, err := json.Marshal(map[string]sandboxer.Money{"m": x})
		var back map[string]sandboxer.Money
		if err != nil || json.Unmarshal(text, &back) != nil || back["m"] != x {
			rt.Errorf("%v came back from %s as %v", x, text, back)
		}
	})
}

// checkMeterLine holds one amount against math/big: exact, and rounded once, half to even.
func checkMeterLine(t interface{ Errorf(string, ...any) }, micros, price int64) {
	exact := new(big.Int).Mul(big.NewInt(micros), big.NewInt(price))
	want, rem := new(big.Int).QuoRem(exact, big.NewInt(1_000_000), new(big.Int))
	switch rem.Cmp(big.NewInt(500_000)) {
	case 1:
		want.Add(want, big.NewInt(1))
	case 0:
		want.Add(want, big.NewInt(int64(want.Bit(0))))
	}
	unit, err := sandboxer.NewMoney(price, "USD")
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	got, err := sandboxer.NewMeterLine("cpu", "vcpu-second", micros, unit)
	if !fits(want) {
		if !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("%d µ at %d: %v, %v, want InvalidArgument: %v does not fit", micros, price, got, err, want)
		}
		return
	}
	if err != nil || got.Amount.Nanos() != want.Int64() || got.Amount.Currency() != "USD" {
		t.Errorf("%d µ at %d: %+v, %v, want %v", micros, price, got, err, want)
	}
	if got.UnitPrice != unit || got.Micros != micros || got.Item != "cpu" || got.Unit != "vcpu-second" {
		t.Errorf("%d µ at %d: the line says %+v", micros, price, got)
	}
}

func TestNewMeterLine(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]int64{
		{0, 0}, {1, 1}, {500_000, 1}, {1_500_000, 1}, {2_500_000, 1}, {500_001, 1}, {499_999, 1}, {1_500_001, 1},
		{1_000_000, math.MaxInt64}, {1_000_001, math.MaxInt64}, {math.MaxInt64, 1_000_000}, {math.MaxInt64, 1_000_001},
		{math.MaxInt64, math.MaxInt64}, {3_600_000_000, 28_000},
	} {
		checkMeterLine(t, tc[0], tc[1])
	}
	// Products whose quotient is 2⁶⁴-1 and is rounded up: the carry must not be lost.
	limit := new(big.Int).Lsh(big.NewInt(1_000_000), 64)
	found := 0
	for price := int64(2_000_000); found < 10; price++ {
		if rem := new(big.Int).Mod(limit, big.NewInt(price)).Int64(); rem > 0 && rem < 499_999 {
			checkMeterLine(t, new(big.Int).Div(limit, big.NewInt(price)).Int64(), price)
			found++
		}
	}
}

func TestNewMeterLineProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		checkMeterLine(rt, rapid.Int64Min(0).Draw(rt, "micros"), rapid.Int64Min(0).Draw(rt, "price"))
		checkMeterLine(rt, rapid.Int64Range(0, 1e12).Draw(rt, "few micros"), rapid.Int64Range(0, 1e7).Draw(rt, "small price"))
	})
}

func TestNewMeterLineRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]int64{{-1, 1}, {1, -1}, {math.MinInt64, math.MinInt64}} {
		if line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", tc[0], usd(t, tc[1])); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("%d µ at %d billionths: %+v, %v, want InvalidArgument", tc[0], tc[1], line, err)
		}
	}
	if line, err := sandboxer.NewMeterLine("flat", "sandbox", 1e6, sandboxer.Money{}); err != nil || !line.Amount.IsZero() {
		t.Errorf("a line without a price: %+v, %v", line, err)
	}
}

func TestMoneyOfDifferentCurrencies(t *testing.T) {
	t.Parallel()
	dollar, euro, none := mustMoney(t, "1 USD"), mustMoney(t, "1 EUR"), sandboxer.Money{}
	if _, err := dollar.Add(euro); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("1 USD + 1 EUR: %v", err)
	}
	if _, err := dollar.Sub(euro); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("1 USD - 1 EUR: %v", err)
	}
	if _, err := dollar.Cmp(euro); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("1 USD <> 1 EUR: %v", err)
	}
	for _, tc := range []struct {
		got  func() (sandboxer.Money, error)
		want string
	}{
		{func() (sandboxer.Money, error) { return none.Add(dollar) }, "1.00 USD"},
		{func() (sandboxer.Money, error) { return dollar.Add(none) }, "1.00 USD"},
		{func() (sandboxer.Money, error) { return dollar.Sub(none) }, "1.00 USD"},
		{func() (sandboxer.Money, error) { return none.Sub(dollar) }, "-1.00 USD"},
		{func() (sandboxer.Money, error) { return none.Sub(none) }, "0"},
		{func() (sandboxer.Money, error) { return dollar.Sub(dollar) }, "0.00 USD"},
	} {
		if got, err := tc.got(); err != nil || got.String() != tc.want {
			t.Errorf("got %v, %v, want %s", got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		a, b sandboxer.Money
		want int
	}{{none, dollar, -1}, {dollar, none, 1}, {none, none, 0}, {usd(t, 0), none, 0}, {usd(t, -1), none, -1}} {
		if got, err := tc.a.Cmp(tc.b); err != nil || got != tc.want {
			t.Errorf("%v compared with %v = %d, %v, want %d", tc.a, tc.b, got, err, tc.want)
		}
	}
	if !none.IsZero() || usd(t, 0).IsZero() {
		t.Error("IsZero is about having no currency")
	}
	if _, err := none.Sub(usd(t, math.MinInt64)); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("0 less the least amount: %v, want InvalidArgument", err)
	}
}

func TestSumLines(t *testing.T) {
	t.Parallel()
	line := func(amount string) sandboxer.MeterLine {
		return sandboxer.MeterLine{Item: "x", Amount: mustMoney(t, amount)}
	}
	if got, err := sandboxer.SumLines(nil); err != nil || !got.IsZero() {
		t.Errorf("no lines sum to %v, %v", got, err)
	}
	if got, err := sandboxer.SumLines([]sandboxer.MeterLine{line("0.1 USD"), {}, line("0.2 USD")}); err != nil || got.String() != "0.30 USD" {
		t.Errorf("0.1 + 0.2 = %v, %v", got, err)
	}
	for name, lines := range map[string][]sandboxer.MeterLine{
		"currencies": {line("1 USD"), line("1 EUR")},
		"too much":   {line("9223372036 USD"), line("1 USD")},
	} {
		if got, err := sandboxer.SumLines(lines); !errors.Is(err, sandboxer.InvalidArgument) || !got.IsZero() {
			t.Errorf("%s: %v, %v, want InvalidArgument", name, got, err)
		}
	}
}

func TestMoneyText(t *testing.T) {
	t.Parallel()
	type bill struct {
		Total sandboxer.Money  `json:"total"`
		Limit *sandboxer.Money `json:"limit,omitempty"`
	}
	limit := mustMoney(t, "1.25 EUR")
	for _, tc := range []struct {
		bill bill
		text string
	}{
		{bill{}, `{"total":""}`},
		{bill{Total: mustMoney(t, "0 USD"), Limit: &limit}, `{"total":"0.00 USD","limit":"1.25 EUR"}`},
	} {
		text, err := json.Marshal(tc.bill)
		if err != nil || string(text) != tc.text {
			t.Errorf("%+v is written as %s, %v, want %s", tc.bill, text, err, tc.text)
		}
		var back bill
		if err := json.Unmarshal(text, &back); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tc.bill, back, cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	m := limit
	if err := m.UnmarshalText([]byte("x")); err == nil || m != limit {
		t.Errorf("text that is no money gave %v, and the amount is now %v", err, m)
	}
	var number bill
	if err := json.Unmarshal([]byte(`{"total":0.5}`), &number); err == nil {
		t.Error("a float was read as money")
	}
}

func BenchmarkNewMeterLine(b *testing.B) {
	price := usd(b, 28_000)
	b.ReportAllocs()
	var total sandboxer.Money
	for b.Loop() {
		line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", 3_600_123_456, price)
		if err != nil {
			b.Fatal(err)
		}
		total = line.Amount
	}
	if total.IsZero() {
		b.Fatal("an hour of CPU is free")
	}
}

// TestPricingAllocatesNothing: every tick of every metered sandbox comes through here.
func TestPricingAllocatesNothing(t *testing.T) {
	price := usd(t, 28_000)
	var total sandboxer.Money
	allocs := testing.AllocsPerRun(100, func() {
		line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", 3_600_123_456, price)
		if err != nil {
			t.Fatal(err)
		}
		if total, err = total.Add(line.Amount); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("pricing a line and adding it up allocates %v times", allocs)
	}
}
