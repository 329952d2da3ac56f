package composessh

import (
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

func TestLabelled(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"a": `x "y" $z \`, "b": "c"}
	const l = `LABEL "a"="x \"y\" \$z \\" "b"="c"` + "\n"
	for in, want := range map[string]string{
		"FROM x\nRUN y\n": "FROM x\n" + l + "RUN y\n",
		"from x as y":     "from x as y\n" + l,
		"ARG V=1\n  FROM \\\n # no\n\n x:$V\nRUN FROM \\\nFROM z\nFROM q\n": "ARG V=1\n  FROM \\\n # no\n\n x:$V\n" + l + "RUN FROM \\\nFROM z\nFROM q\n" + l,
		"FR\\\nOM x\n":                            "FR\\\nOM x\n" + l,
		"\ufeffFROM x\r\nRUN y\r\n":               "\ufeffFROM x\r\n" + l + "RUN y\r\n",
		"# FROM x\nFROM\ty\n":                     "# FROM x\nFROM\ty\n" + l,
		"FROM x\nRUN <<EOF\ny\nEOF\nFROM z\n":     "FROM x\n" + l + "RUN <<EOF\ny\nEOF\nFROM z\n" + l,
		"FROM x\nRUN echo $((1<<N))\nFROM z\n":    "FROM x\n" + l + "RUN echo $((1<<N))\nFROM z\n" + l,
		"# escape=`\nFROM `\nx\nRUN c:\\\nFROM z": "# escape=`\nFROM `\nx\n" + "LABEL \"a\"=\"x `\"y`\" `$z \\\" \"b\"=\"c\"\nRUN c:\\\nFROM z\nLABEL \"a\"=\"x `\"y`\" `$z \\\" \"b\"=\"c\"\n",
	} {
		if got, err := labelled(in, labels); got != want || err != nil {
			t.Errorf("%q became (%v)\n%s\nand should be\n%s", in, err, got, want)
		}
	}
	for _, in := range []string{"FROM x\nRUN cat <<EOF\nFROM z\nEOF\n", strings.Repeat("#", maxDockerfile+1)} {
		if _, err := labelled(in, labels); sandboxer.CodeOf(err) == sandboxer.Unknown {
			t.Errorf("%.50q: %v", in, err)
		}
	}
}
