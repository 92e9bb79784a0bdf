package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// EnvPrefix starts every environment variable that is read.
const EnvPrefix = "WXRELAY"

// provenance is where a config came from: what Watch looks at, and what Show tells beside a masked secret.
type provenance struct {
	path    string
	env     []string
	rules   []Rule
	files   []string          // the config itself first, then every secret file
	print   [sha256.Size]byte // of all their contents
	origin  map[string]string
	unknown []string
}

// Rule is what other packages have to say about a config. It is asked whatever else is wrong, so that all faults come at
// once: c may have faulty values, and a refusal of one that is faulty already is dropped. Paths are as in apps[0].secret.
type Rule func(c *Config, refuse func(path, format string, a ...any))

// Load reads the file at path with its secret files and the environment (os.Environ form; nil = none).
// Its error is a Faults: everything that is wrong at once, by the rules too.
func Load(path string, env []string, rules ...Rule) (*Config, error) {
	c, from, err := load(path, env, rules)
	if err != nil {
		return nil, err
	}
	c.from = from
	return c, nil
}

// load also says what was read when it was wrong, so that Watch knows where to look for the cure.
func load(path string, env []string, rules []Rule) (*Config, provenance, error) {
	contents := map[string][]byte{}
	raw, err := readSmall(path)
	var c *Config
	var from provenance
	if err != nil {
		err = Faults{{path, reason(err)}}
	} else {
		contents[path] = raw
		c, from, err = parse(raw, filepath.Dir(path), env, contents, rules)
	}
	from.path, from.env, from.rules, from.files = path, env, rules, []string{path}
	for name := range contents {
		if name != path {
			from.files = append(from.files, name)
		}
	}
	sort.Strings(from.files[1:])
	// Of what was read, not of what stands there now: a change in between must be noticed.
	from.print = fingerprint(from.files, func(name string) []byte { return contents[name] })
	return c, from, err
}

// Parse is Load for a config already in memory; secret files with a relative name are found from dir.
func Parse(raw []byte, dir string, env []string, rules ...Rule) (*Config, error) {
	c, from, err := parse(raw, dir, env, map[string][]byte{}, rules)
	if err != nil {
		return nil, err
	}
	c.from = from
	return c, nil
}

// parse notes the content of every secret file it asks for, nil when there is none.
func parse(raw []byte, dir string, env []string, contents map[string][]byte, rules []Rule) (*Config, provenance, error) {
	root, err := tree(raw)
	if err != nil {
		return nil, provenance{}, err
	}
	f := &filling{env: environment(env), usedEnv: map[string]bool{}, dir: dir, contents: contents, origin: map[string]string{}}
	c := &Config{}
	f.part(reflect.ValueOf(c).Elem(), root, "", EnvPrefix)
	c.validate(f)
	f.settled = len(f.faults)
	for _, rule := range rules {
		rule(c, f.refuse)
	}
	if len(f.faults) > 0 {
		return nil, provenance{}, f.faults
	}
	c.inherit()
	from := provenance{env: env, origin: f.origin}
	for name := range f.env {
		if !f.usedEnv[name] && !foreignEnv.MatchString(name) {
			from.unknown = append(from.unknown, name)
		}
	}
	sort.Strings(from.unknown)
	return c, from, nil
}

// foreignEnv is what others set under our name: container links and Kubernetes services called wxrelay, test runs.
var foreignEnv = regexp.MustCompile(`^WXRELAY_(TEST_|SERVICE_|PORT($|_)|NAME$|ENV_)`)

// UnknownEnv lists variables that start with WXRELAY_ and set nothing, so probably are misspelt.
func (c *Config) UnknownEnv() []string { return c.from.unknown }

// Path is the file the config was loaded from, "" when it was parsed from memory.
func (c *Config) Path() string { return c.from.path }

// environment keeps our variables; an empty one counts as not set, as container files like to write them.
func environment(env []string) map[string]string {
	ours := map[string]string{}
	for _, pair := range env {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, EnvPrefix+"_") && value != "" {
			ours[name] = value
		}
	}
	return ours
}

// tree reads exactly one YAML document; nothing at all is an empty one.
func tree(raw []byte) (*yaml.Node, error) {
	in := yaml.NewDecoder(bytes.NewReader(raw))
	var doc, more yaml.Node
	if err := in.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, Faults{{"yaml", scrubYAML(err)}}
	}
	if err := in.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, Faults{{"yaml", scrubYAML(err)}}
		}
		return nil, Faults{{"yaml", fmt.Sprintf("a second document starts on line %d, one is wanted", more.Line)}}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

var quoted = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")

// scrubYAML keeps the line and the reason. What the library quotes might be a secret that was not quoted, such as
// *anchor; its punctuation is not.
func scrubYAML(err error) string {
	s := quoted.ReplaceAllStringFunc(strings.TrimPrefix(err.Error(), "yaml: "), func(q string) string {
		if strings.ContainsFunc(q, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			return masked
		}
		return q
	})
	return strings.Join(strings.Fields(s), " ")
}

// maxFile bounds the config and each secret file.
const maxFile = 4 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = errors.New("larger than 4MiB")
	}
	return raw, err
}

// reason drops the operation and the path, the fault names the path already.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// fingerprint covers the contents of the files; one that cannot be read (nil) is not the same as an empty one.
func fingerprint(files []string, read func(string) []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range files {
		raw := read(name)
		fmt.Fprintf(h, "%s\x00%t\x00%d\x00", name, raw != nil, len(raw))
		h.Write(raw)
	}
	h.Sum(sum[:0])
	return sum
}

func contentNow(name string) []byte {
	raw, err := readSmall(name)
	if err != nil {
		return nil
	}
	return raw
}

// NotTheExample is the Rule that refuses the example's secrets, which everybody can read.
func NotTheExample(c *Config, refuse func(path, format string, a ...any)) {
	for _, path := range c.ExampleSecrets() {
		refuse(path, "still the example's, which everybody can read; wxrelay keygen makes new ones")
	}
}

// ExampleSecrets lists the paths of secrets that still are what the example has in their place.
func (c *Config) ExampleSecrets() (paths []string) {
	e, err := Parse(example, ".", nil)
	if err != nil {
		panic("config: the example does not load: " + err.Error())
	}
	known := map[string]bool{}
	eachSecret(reflect.ValueOf(e).Elem(), "", func(_ string, s Secret) { known[s.Reveal()] = true })
	eachSecret(reflect.ValueOf(c).Elem(), "", func(path string, s Secret) {
		if known[s.Reveal()] {
			paths = append(paths, path)
		}
	})
	return paths
}

// eachSecret visits every secret that is given.
func eachSecret(v reflect.Value, path string, visit func(string, Secret)) {
	switch t := v.Type(); {
	case t == secretType:
		if s := v.Interface().(Secret); !s.IsZero() {
			visit(path, s)
		}
	case isPart(t):
		names, index := fields(t)
		for i, name := range names {
			eachSecret(v.Field(index[i]), under(path, name), visit)
		}
	case t.Kind() == reflect.Slice:
		for i := range v.Len() {
			eachSecret(v.Index(i), fmt.Sprintf("%s[%d]", path, i), visit)
		}
	}
}
