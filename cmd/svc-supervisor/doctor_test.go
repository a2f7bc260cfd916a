package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestDoctorPrintsASubjectOnceAndTheNextStep(t *testing.T) {
	d := &findingList{subject: "host"}
	d.ok("supervisor", "answers on %s", "/run/s")
	d.fail("NSDB", "check SVC_NSDB", "no\nanswer")
	d.subject = "vpn"
	d.unknown("CHECK", "run this command again", "code 11")
	var out strings.Builder
	if err := d.print(&out); err != nil {
		t.Fatal(err)
	}
	want := `host
  ok      supervisor   answers on /run/s
  FAIL    NSDB         no answer
          next:        check SVC_NSDB
vpn
  UNKNOWN CHECK        code 11
          next:        run this command again
`
	if out.String() != want {
		t.Error(out.String())
	}
	if err := d.exit(); exitStatus(err) != exitDegraded {
		t.Error(err)
	}
	d.list = d.list[2:]
	if err := d.exit(); exitStatus(err) != exitUnknown {
		t.Error(err)
	}
	d.list = nil
	if err := d.exit(); err != nil {
		t.Error(err)
	}
}

// TestDoctorUsesTheSettingsOfTheService has the forms that systemd accepts in an EnvironmentFile=.
func TestDoctorUsesTheSettingsOfTheService(t *testing.T) {
	file := filepath.Join(t.TempDir(), "environment")
	content := "# SVC_HOST_ID=comment\n;SVC_HOST_ID=comment\n\n SVC_NSDB = 'etcd://h/svc?a&b'\nSVC_HOST_ID=\"h1\"\n" +
		"SVC_STATE_DIR=/from/file\nOTHER=x\nno assignment\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var got string
	var flags []cli.Flag // of this test: those of the commands keep what another test has set
	for _, name := range []string{"nsdb", "host-id", "state-dir", "run-dir"} {
		variable := "SVC_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		flags = append(flags, &cli.StringFlag{Name: name, Value: "default", EnvVars: []string{variable}})
	}
	app := &cli.App{Commands: []*cli.Command{{
		Name: "doctor", Flags: flags,
		Action: func(c *cli.Context) error {
			if err := useServiceSettings(c, file+".missing"); err != nil {
				return err
			}
			err := useServiceSettings(c, file)
			got = strings.Join([]string{
				c.String("nsdb"), c.String("host-id"), c.String("state-dir"), c.String("run-dir"),
			}, " ")
			return err
		},
	}}}
	if err := app.Run([]string{"x", "doctor", "--state-dir", "/from/option"}); err != nil {
		t.Fatal(err)
	}
	if want := "etcd://h/svc?a&b h1 /from/option default"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
