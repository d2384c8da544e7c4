#!/usr/bin/perl
# A client of adt-virt servers that times what it asks for. In Perl because sbuild is: it starts servers and commands by the
# same fork and exec, without the 2 ms that Node's spawn would add to everything.
#
#   wire-client.pl floor COUNT                            fork + exec of /bin/true, without any server
#   wire-client.pl measure COUNT FILE TREE SERVER...      two sessions; JSON in milliseconds
#   wire-client.pl run VERB SCRIPT SERVER...              VERB: open (then close) or open-golden (then commit-golden)
use strict;
use warnings;
use IO::Handle;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $limit = 300;    # seconds without an answer
my ($server, $to, $from);

my $mode = shift // '';
$SIG{ALRM} = sub { give_up("no answer within $limit seconds") };
$SIG{$_} = sub { give_up('interrupted') } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';
STDOUT->autoflush(1);
if    ($mode eq 'floor')   { print encode_json({ true => floor(@ARGV) }), "\n" }
elsif ($mode eq 'measure') { print encode_json(measure(@ARGV)),           "\n" }
elsif ($mode eq 'run')     { exit run(@ARGV) }
else                       { die "usage: wire-client.pl floor | measure | run\n" }

sub floor {
    my ($count) = @_;
    return [map { timed(sub { command('/bin/true') }) } 1 .. $count];
}

# A server each for the empty session and for the one with copies: autopkgtest-virt-unshare 5.28 cannot open twice.
sub measure {
    my ($count, $file, $tree, @argv) = @_;
    my %times;
    $times{start} = timed(sub { start(@argv) });
    my @execute;
    $times{open}   = timed(sub { ask('open');   @execute = execute_command(); must(@execute, 'true') });
    $times{true}   = [map { timed(sub { must(@execute, 'true') }) } 1 .. $count];
    $times{revert} = timed(sub { ask('revert'); @execute = execute_command(); must(@execute, 'true') });
    $times{close}  = timed(sub { ask('close') });
    $times{quit}   = timed(\&quit);
    start(@argv);
    my $scratch = ask('open');
    @execute = execute_command();
    $times{file} = timed(sub { ask("copydown $file $scratch/file") });
    $times{tree} = timed(sub { ask("copydown $tree/ $scratch/tree/") });
    my $complete = 'test -s "$1/file" && test "$(find "$1/tree" -type f | wc -l)" = 5000';
    must(@execute, 'sh', '-c', $complete, 'sh', $scratch);
    my $up = "$file-up";    # beside the file: on the same disk
    mkdir $up or die "mkdir $up: $!\n";
    $times{fileUp} = timed(sub { ask("copyup $scratch/file $up/file") });
    $times{treeUp} = timed(sub { ask("copyup $scratch/tree/ $up/tree/") });
    must('/bin/sh', '-c', "$complete && rm -r -- \"\$1\"", 'sh', $up);
    $times{closeUsed} = timed(sub { ask('close') });
    quit();
    return \%times;
}

# The script's output is ours.
sub run {
    my ($verb, $script, @argv) = @_;
    start(@argv);
    ask($verb);
    my $status = command_with_output(execute_command(), 'sh', '-c', $script);
    ask($status == 0 && $verb eq 'open-golden' ? 'commit-golden' : 'close');
    quit();
    print STDERR "the script ended with $status\n" if $status != 0;
    return $status == 0 ? 0 : 1;
}

sub timed {
    my ($action) = @_;
    my $begun = clock_gettime(CLOCK_MONOTONIC);
    $action->();
    return 0 + sprintf '%.3f', 1000 * (clock_gettime(CLOCK_MONOTONIC) - $begun);
}

sub start {
    my (@argv) = @_;
    pipe my $server_in, $to  or die "pipe: $!\n";
    pipe $from, my $server_out or die "pipe: $!\n";
    $server = fork // die "fork: $!\n";
    if ($server == 0) {
        POSIX::setsid();
        open STDIN,  '<&', $server_in  or POSIX::_exit(127);
        open STDOUT, '>&', $server_out or POSIX::_exit(127);
        close $_ for $to, $from, $server_in, $server_out;
        { no warnings 'exec'; exec { $argv[0] } @argv }
        print STDERR "$argv[0]: $!\n";
        POSIX::_exit(127);
    }
    close $_ for $server_in, $server_out;
    answer('the start');
    return;
}

# @returns what comes after "ok"
sub ask {
    my ($line) = @_;
    my $out = "$line\n";
    syswrite($to, $out) == length $out or give_up("cannot write '$line'");
    return answer($line);
}

sub answer {
    my ($question) = @_;
    alarm $limit;
    my $line = readline $from;
    alarm 0;
    give_up("the server ended instead of answering '$question'") if !defined $line;
    chomp $line;
    return $1 // '' if $line =~ /\Aok(?: (.*))?\z/;
    give_up("'$question' was answered with '$line'");
}

sub execute_command {
    return map { s/%([0-9A-Fa-f]{2})/chr hex $1/ger } split /,/, ask('print-execute-command');
}

# As clients run most of what they run: input from /dev/null.
sub command {
    my (@argv) = @_;
    my $child = fork // die "fork: $!\n";
    if ($child == 0) {
        open STDIN,  '<', '/dev/null' or POSIX::_exit(127);
        open STDOUT, '>', '/dev/null' or POSIX::_exit(127);
        exec { $argv[0] } @argv or POSIX::_exit(127);
    }
    waitpid $child, 0;
    return $?;
}

sub command_with_output {
    my (@argv) = @_;
    return system { $argv[0] } @argv;
}

sub must {
    my (@argv) = @_;
    my $status = command(@argv);
    give_up("'$argv[-1]' in the testbed ended with status $status") if $status != 0;
    return;
}

sub quit {
    syswrite $to, "quit\n";
    alarm $limit;
    waitpid $server, 0;
    alarm 0;
    die "the server ended with status $? after quit\n" if $? != 0;
    undef $server;
    return;
}

# The server's own words are on standard error already.
sub give_up {
    my ($why) = @_;
    print STDERR "wire-client: $why\n";
    if ($server) {
        kill 'TERM', $server;
        local $SIG{ALRM} = sub { kill 'KILL', $server };
        alarm 20;
        waitpid $server, 0;
    }
    exit 1;
}
