#!/usr/bin/env bash
# Installs the test peers that are missing, beside the build in .peers/: Debian's mosquitto, its clients, socat,
# libfaketime, nats-server and rabbitmq-server with Erlang, and PyPI's pymodbus, paho-mqtt, pyserial and
# prometheus-client in a virtual environment. Debian's packages are unpacked, never installed, so no root is needed,
# nothing outside .peers/ changes and no service is started. From Debian's source packages of mosquitto come the packet
# sequences that its project tests its own broker with.
#
#   tests/peers.sh          prints a line per peer; does nothing when all are there
#
# EDGEWAY_PEERS   the folder to install into (default: .peers in the repository)
set -euo pipefail

TOOLS=(mosquitto mosquitto_pub mosquitto_sub mosquitto_passwd socat)
DEBIAN_PACKAGES=(mosquitto mosquitto-clients socat)
# What rabbitmq-server's package asks for and its broker with MQTT does without.
UNUSED='logrotate libpopt0 erlang-ftp erlang-snmp erlang-tftp'
# The one for programs of several threads.
FAKETIME=libfaketimeMT.so.1
PYTHON_PACKAGES=(pymodbus==3.16.1 paho-mqtt==2.2.0 pyserial==3.5 prometheus-client==0.26.0)
PYTHON_AT_LEAST=3.10
# Releases of mosquitto whose packet sequences are played, with the checksum of their source. Each stays in Debian's
# pool for as long as one of its suites has it: 2.1.2 came with forky, 2.0.21 is trixie's.
SEQUENCES=(
  2.1.2:a8e37cc4c1d4141e56c5a8729c5fa36b1f0b1ca95378a12131d68f0509de122a
  2.0.21:551daff96cd0675faf888f8881536177934424ecc45924fecf94cffe207f6e81
)

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=${EDGEWAY_PEERS:-$repository/.peers}
mkdir -p "$peers/bin"
peers=$(cd "$peers" && pwd)
log=$peers/install.log
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

if command -v flock >/dev/null 2>&1; then
  exec 9>"$peers/lock"
  flock 9
fi

fail() {
  printf 'peers: %s\n' "$*" >&2
  exit 1
}

# The program of that name on the machine, outside .peers/.
on_machine() {
  local folder
  local IFS=:
  for folder in $PATH; do
    [ "$folder" != "$peers/bin" ] && [ -x "$folder/$1" ] && { printf '%s/%s\n' "$folder" "$1"; return 0; }
  done
  return 1
}

# --- Debian's packages -------------------------------------------------------------------------------------

apt_options=()

# Package lists of our own under .peers/, which need no root; for a machine whose lists are absent or too old.
use_own_package_lists() {
  mkdir -p "$peers/apt/lists/partial" "$peers/apt/cache/archives/partial"
  apt_options=(
    -o "Dir::State=$peers/apt" -o "Dir::State::status=/var/lib/dpkg/status"
    -o "Dir::Cache=$peers/apt/cache" -o "Debug::NoLocking=1"
  )
  [ "$(id -u)" != 0 ] || apt_options+=(-o "APT::Sandbox::User=root")
  apt-get "${apt_options[@]}" update >>"$log" 2>&1
}

# What of the given packages and all they depend on is not on the machine. An upgrade ("Inst name [old] ...")
# is left out: the older one that is there serves.
missing_packages() {
  apt-get "${apt_options[@]}" install --simulate --no-install-recommends "$@" 2>>"$log" |
    awk -v unused=" $UNUSED " '$1 == "Inst" && $3 !~ /^\[/ && !index(unused, " " $2 " ") { print $2 }'
}

download() {
  local packages
  packages=$(missing_packages "$@") || return 1
  [ -n "$packages" ] || return 0
  # shellcheck disable=SC2086 # names of packages hold no spaces
  (cd "$peers/packages" && apt-get "${apt_options[@]}" download $packages >>"$log" 2>&1)
}

unpack_debian() {
  command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1 ||
    fail "not there: $missing. This machine has no apt: install $* (or what your system calls them), then try again."
  local package
  rm -rf "$peers/packages"
  mkdir -p "$peers/packages" "$peers/debian"
  if ! download "$@"; then
    { use_own_package_lists && download "$@"; } ||
      fail "cannot download $*: see $log, or install them and try again"
  fi
  for package in "$peers"/packages/*.deb; do
    [ -e "$package" ] || continue
    dpkg -x "$package" "$peers/debian"
  done
  rm -rf "$peers/packages"
}

# The unpacked folders that hold shared libraries, as the wrappers name them.
library_path() {
  find "$peers/debian/lib" "$peers/debian/usr/lib" \( -name '*.so' -o -name '*.so.*' \) ! -path '*/python3*' -printf '%h\n' 2>/dev/null |
    sort -u | sed "s|^$peers|\$peers|" | paste -sd: || true
}

# write_wrapper NAME PROGRAM: .peers/bin/NAME runs .peers/PROGRAM with the unpacked libraries. The wrapper
# replaces itself, so its process id is the program's.
write_wrapper() {
  local file=$peers/bin/$1
  cat >"$file.new" <<WRAPPER
#!/bin/sh
peers=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
LD_LIBRARY_PATH="$(library_path)\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "\$peers/$2" "\$@"
WRAPPER
  chmod +x "$file.new"
  mv -f "$file.new" "$file"
}

install_tools() {
  local tool program
  missing=
  for tool in "${TOOLS[@]}"; do
    [ -x "$peers/bin/$tool" ] && continue
    if program=$(on_machine "$tool"); then
      ln -sfn "$program" "$peers/bin/$tool"
    else
      missing="$missing $tool"
    fi
  done
  missing=${missing# }
  [ -n "$missing" ] || return 0
  echo "peers: unpacking ${DEBIAN_PACKAGES[*]}"
  unpack_debian "${DEBIAN_PACKAGES[@]}"
  for tool in $missing; do
    program=$(cd "$peers" && find debian -path "*bin/$tool" | head -n 1)
    [ -n "$program" ] || fail "$tool is in none of the packages ${DEBIAN_PACKAGES[*]}: see $log"
    write_wrapper "$tool" "$program"
  done
}

# nats-server is one program.
install_nats() {
  local program
  [ ! -x "$peers/bin/nats-server" ] || return 0
  if program=$(on_machine nats-server); then
    ln -sfn "$program" "$peers/bin/nats-server"
    return 0
  fi
  echo "peers: unpacking nats-server"
  missing=nats-server
  unpack_debian nats-server
  program=$(cd "$peers" && find debian -path '*bin/nats-server' | head -n 1)
  [ -n "$program" ] || fail "Debian's nats-server holds no nats-server: see $log"
  write_wrapper nats-server "$program"
}

# first_folder NAME: a folder of that pattern among what was unpacked, or on the machine.
first_folder() {
  # shellcheck disable=SC2086 # the pattern is to be expanded
  ls -d "$peers"/debian/usr/lib/$1 /usr/lib/$1 2>/dev/null | head -n 1 || true
}

# .peers/bin/rabbitmq-server runs the broker in the foreground with all its files in one folder, and nothing beside it: Erlang's scripts know one place only, RabbitMQ's own want its user, and epmd would be left behind.
install_rabbitmq() {
  local erlang runtime rabbitmq library
  [ ! -x "$peers/bin/rabbitmq-server" ] || return 0
  if [ -z "$(first_folder 'rabbitmq/lib/rabbitmq_server-*')" ] || [ -z "$(first_folder erlang)" ]; then
    echo "peers: unpacking rabbitmq-server with Erlang (40 MB)"
    missing=rabbitmq-server
    unpack_debian rabbitmq-server
  fi
  erlang=$(first_folder erlang)
  rabbitmq=$(first_folder 'rabbitmq/lib/rabbitmq_server-*')
  runtime=$(ls -d "$erlang"/erts-*/bin 2>/dev/null | head -n 1 || true)
  [ -n "$runtime" ] && [ -n "$rabbitmq" ] || fail "Debian's rabbitmq-server holds no broker: see $log"
  library=$(library_path)
  # Below .peers/ the folders are named from there, so that it may be moved.
  erlang=${erlang/#$peers/\$peers} runtime=${runtime/#$peers/\$peers} rabbitmq=${rabbitmq/#$peers/\$peers}
  cat >"$peers/bin/rabbitmq-server.new" <<WRAPPER
#!/bin/sh
# rabbitmq-server FOLDER DISTRIBUTION_PORT: with FOLDER/rabbitmq.conf and FOLDER/enabled_plugins; all it writes is in FOLDER.
set -eu
peers=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
LD_LIBRARY_PATH="$library\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
ROOTDIR="$erlang" BINDIR="$runtime" EMU=beam PROGNAME=erl
RABBITMQ_HOME="$rabbitmq"
HOME=\$1 ERL_LIBS=\$RABBITMQ_HOME/plugins ERL_CRASH_DUMP_SECONDS=0
RABBITMQ_BASE=\$1 RABBITMQ_MNESIA_BASE=\$1/mnesia RABBITMQ_LOG_BASE=\$1/log RABBITMQ_LOGS=- RABBITMQ_PID_FILE=\$1/pid
RABBITMQ_CONFIG_FILE=\$1/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=\$1/enabled_plugins RABBITMQ_CONF_ENV_FILE=/dev/null
RABBITMQ_FEATURE_FLAGS_FILE=\$1/feature_flags RABBITMQ_GENERATED_CONFIG_DIR=\$1/config SYS_PREFIX=
RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_DIST_PORT=\$2
export LD_LIBRARY_PATH ROOTDIR BINDIR EMU PROGNAME HOME ERL_LIBS ERL_CRASH_DUMP_SECONDS SYS_PREFIX
export RABBITMQ_HOME RABBITMQ_BASE RABBITMQ_MNESIA_BASE RABBITMQ_LOG_BASE RABBITMQ_LOGS RABBITMQ_PID_FILE RABBITMQ_CONFIG_FILE
export RABBITMQ_ENABLED_PLUGINS_FILE RABBITMQ_CONF_ENV_FILE RABBITMQ_FEATURE_FLAGS_FILE RABBITMQ_GENERATED_CONFIG_DIR
export RABBITMQ_NODENAME RABBITMQ_DIST_PORT
# A node that has its name already asks no epmd; Erlang takes the given port for that of every node.
exec "\$BINDIR/erlexec" -noinput -boot start_sasl -s rabbit boot +W w +B i +S 2 +sbwt none +sbwtdcpu none +sbwtdio none \\
  -sname "\$RABBITMQ_NODENAME" -start_epmd false -erl_epmd_port "\$2" \\
  -kernel inet_dist_use_interface '{127,0,0,1}' -kernel inet_dist_listen_min "\$2" -kernel inet_dist_listen_max "\$2" \\
  -kernel prevent_overlapping_partitions false -syslog logger '[]' -syslog syslog_error_logger false
WRAPPER
  chmod +x "$peers/bin/rabbitmq-server.new"
  mv -f "$peers/bin/rabbitmq-server.new" "$peers/bin/rabbitmq-server"
}

# The library that sets the clock of the program that it is loaded into. Only its name is the same on every system.
install_faketime() {
  local library
  [ ! -e "$peers/lib/$FAKETIME" ] || return 0
  mkdir -p "$peers/lib"
  library=$(find /usr/lib /usr/lib64 /usr/local/lib -name "$FAKETIME" 2>/dev/null | head -n 1 || true)
  if [ -z "$library" ]; then
    echo "peers: unpacking libfaketime"
    missing=$FAKETIME
    unpack_debian libfaketime
    library=$(cd "$peers/lib" && find ../debian -name "$FAKETIME" | head -n 1)
    [ -n "$library" ] || fail "Debian's libfaketime holds no $FAKETIME: see $log"
  fi
  ln -sfn "$library" "$peers/lib/$FAKETIME"
}

# --- Python's packages -------------------------------------------------------------------------------------

recent_enough() {
  "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$PYTHON_AT_LEAST'.split('.'))))" 2>/dev/null
}

find_python() {
  local name program
  for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    program=$(on_machine "$name") && recent_enough "$program" && { printf '%s\n' "$program"; return 0; }
  done
  return 1
}

install_python() {
  local wanted="${PYTHON_PACKAGES[*]}" python wheel
  if [ -x "$peers/bin/python" ] && [ "$(cat "$peers/venv/edgeway-packages" 2>/dev/null)" = "$wanted" ] &&
    "$peers/bin/python" -c 'import pymodbus, paho.mqtt.client, serial, prometheus_client' 2>/dev/null; then
    return 0
  fi
  echo "peers: installing $wanted"
  rm -rf "$peers/venv"
  missing="Python $PYTHON_AT_LEAST or newer"
  if python=$(find_python); then
    rm -f "$peers/bin/python"
  else
    unpack_debian python3
    python=$(find "$peers/debian/usr/bin" -name 'python3.[0-9]*' -type f -perm -u+x | sort -V | tail -n 1)
    [ -n "$python" ] || fail "Debian's python3 holds no interpreter: see $log"
    LD_LIBRARY_PATH=$(library_path | sed "s|\$peers|$peers|g")
    export LD_LIBRARY_PATH
  fi
  # Debian keeps the module that brings pip in a package apart; its wheel serves as well.
  if ! "$python" -m venv "$peers/venv" >>"$log" 2>&1; then
    rm -rf "$peers/venv"
    missing="Python's pip"
    unpack_debian python3-pip-whl
    wheel=$(find "$peers/debian/usr/share/python-wheels" /usr/share/python-wheels -name 'pip-*.whl' 2>/dev/null | head -n 1 || true)
    [ -n "$wheel" ] || fail "no pip: install python3-venv, then try again (see $log)"
    "$python" -m venv --without-pip "$peers/venv" >>"$log" 2>&1 || fail "cannot make a virtual environment: see $log"
    "$peers/venv/bin/python" "$wheel/pip" install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}" >>"$log" 2>&1 ||
      fail "cannot install $wanted: see $log"
  else
    "$peers/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}" >>"$log" 2>&1 ||
      fail "cannot install $wanted: see $log"
  fi
  write_wrapper python venv/bin/python
  printf '%s\n' "$wanted" >"$peers/venv/edgeway-packages"
}

# --- packet sequences of the mosquitto project ---------------------------------------------------------------

# The mirrors of Debian's archive that the machine's apt knows, with or without lists.
debian_mirrors() {
  apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Created-By: Packages' 2>>"$log" |
    grep '/debian/$' | sort -u
}

# fetch_source VERSION SHA256: the upstream source of mosquitto, by apt's own downloader, which checks it.
fetch_source() {
  local mirror options=()
  [ "$(id -u)" != 0 ] || options+=(-o "APT::Sandbox::User=root")
  for mirror in $(debian_mirrors); do
    rm -f "$peers/source.tar.gz"
    /usr/lib/apt/apt-helper "${options[@]}" download-file \
      "${mirror}pool/main/m/mosquitto/mosquitto_$1.orig.tar.gz" "$peers/source.tar.gz" "SHA256:$2" >>"$log" 2>&1 && return 0
  done
  return 1
}

install_sequences() {
  local release version folder some=
  for release in "${SEQUENCES[@]}"; do
    version=${release%%:*}
    folder=$peers/sequences/$version
    if [ ! -d "$folder" ]; then
      echo "peers: fetching the packet sequences of mosquitto $version"
      rm -rf "$peers/sequences/new"
      mkdir -p "$peers/sequences/new"
      if fetch_source "$version" "${release##*:}" &&
        tar -xzf "$peers/source.tar.gz" -C "$peers/sequences/new" --wildcards --transform 's|.*/||' '*/test/broker/data/*.json' 2>>"$log"; then
        mv "$peers/sequences/new" "$folder"
      else
        echo "peers: mosquitto $version: cannot fetch its source: see $log" >&2
      fi
      rm -rf "$peers/sequences/new" "$peers/source.tar.gz"
    fi
    [ ! -d "$folder" ] || some=$version
  done
  [ -n "$some" ] || fail "no packet sequences: put test/broker/data of a mosquitto source into $peers/sequences/VERSION"
}

# --- what is there -----------------------------------------------------------------------------------------

: >"$log"
install_tools
install_faketime
install_nats
install_rabbitmq
install_python
install_sequences
for tool in "${TOOLS[@]}" nats-server rabbitmq-server; do
  if [ -L "$peers/bin/$tool" ]; then
    printf 'peers: %-17s %s\n' "$tool" "$(readlink "$peers/bin/$tool")"
  else
    printf 'peers: %-17s %s\n' "$tool" "unpacked in $peers"
  fi
done
printf 'peers: %-17s %s\n' libfaketime "$(readlink -f "$peers/lib/$FAKETIME")"
for package in "${PYTHON_PACKAGES[@]}"; do
  printf 'peers: %-17s %s\n' "${package%%==*}" "${package##*==} in $peers/venv"
done
for folder in "$peers"/sequences/*/; do
  printf 'peers: %-17s %s\n' sequences "of mosquitto $(basename "$folder")"
done
