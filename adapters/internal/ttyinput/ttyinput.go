// Package ttyinput knows what is typed into a terminal to end its input.
package ttyinput

// End is what is typed behind the byte last to end the input of a terminal: ^D counts at the beginning of a line only; within
// one, the first only hands the line over. Where nothing was typed, last is a line break.
func End(last byte) []byte {
	const ctrlD = 4
	if last == '\n' || last == '\r' {
		return []byte{ctrlD}
	}
	return []byte{ctrlD, ctrlD}
}
