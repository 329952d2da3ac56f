package metering

import (
	"math"

	"github.com/sand-boxer/sandboxer"
)

// totalLine stands for lines that are not known, or not kept.
func totalLine(total sandboxer.Money) []sandboxer.MeterLine {
	if total.Nanos() == 0 {
		return nil
	}
	return []sandboxer.MeterLine{{Item: "total", Unit: "record", Micros: 1_000_000, UnitPrice: total, Amount: total}}
}

// folded adds up the lines of one item at one price; where they do not add up they stay as they are.
func folded(r Record) []sandboxer.MeterLine {
	type kind struct {
		item, unit string
		price      sandboxer.Money
	}
	at := map[kind]int{}
	var out []sandboxer.MeterLine
	for _, l := range r.Lines {
		k := kind{l.Item, l.Unit, l.UnitPrice}
		i, again := at[k]
		if !again {
			at[k] = len(out)
			out = append(out, l)
			continue
		}
		sum, err := out[i].Amount.Add(l.Amount)
		if err != nil || l.Micros < 0 || out[i].Micros > math.MaxInt64-l.Micros {
			return r.Lines
		}
		out[i].Micros, out[i].Amount = out[i].Micros+l.Micros, sum
	}
	return out
}
