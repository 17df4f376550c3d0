"""What the benchmarks in Python share: a server of their own, and the impressions of the sample as a table of any size."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import run

FEATURES = "item_id, position, user_feature_0, user_feature_1, user_feature_2, user_feature_3"
SAMPLE_ROWS = 20_000


class Server:
    """The built program over a data folder. Its state folder is gone at the end, unless one is given."""

    def __init__(self, binary, data, state=None):
        self.command, self.state = [binary, "serve", "--port", "0", "--data", str(data)], state

    def __enter__(self):
        import psycopg

        self.temporary = None if self.state else tempfile.TemporaryDirectory(prefix="stratagem-bench-")
        environment = dict(run.with_runtime(), STRATAGEM_LOG__LEVEL="warn", STRATAGEM_LIMITS__STATEMENT_TIMEOUT="0s")
        command = [*self.command, "--state", str(self.state or self.temporary.name)]
        self.client = self.process = None
        try:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            self.__exit__()
            raise run.Problem(f"{command[0]} does not start: {error.strerror}; build it, or name it with --binary") from None
        port = self.process.stdout.readline().strip().rpartition(" ")[2]
        if not port.isdigit():
            self.__exit__()
            raise run.Problem(f"`{' '.join(command)}` gave no port (its reason is above)")
        try:
            self.client = psycopg.connect(host="127.0.0.1", port=int(port), user="bench", dbname="stratagem", autocommit=True)
        except psycopg.Error as error:
            self.__exit__()
            raise run.Problem(f"the server takes no connection: {error}") from None
        return self

    def __exit__(self, *_):
        if self.client:
            self.client.close()
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        if self.temporary:
            self.temporary.cleanup()

    def rows(self, sql):
        """The result as column -> values; empty for a statement without rows."""
        import psycopg

        try:
            with self.client.cursor() as cursor:
                cursor.execute(sql)
                if cursor.description is None:
                    return {}
                names = [column.name for column in cursor.description]
                found = list(zip(*cursor.fetchall())) or [() for _ in names]
        except psycopg.Error as error:
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise run.Problem(f"{error.diag.message_primary or error}{hint}, in: {' '.join(sql.split())[:300]}") from None
        return dict(zip(names, found))

    def cpu_seconds(self):
        """The processor time of the server so far, over all of its threads."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            after_name = file.read().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        """The most memory the server has had since it started."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def impressions(folder, copies, name="repeated"):
    """The table open_bandit.NAME in the folder: the impressions of the sample, so many times. Links to one copy, so it takes no space."""
    sample = run.cache_root() / "data" / "open_bandit" / "impressions_random.parquet"
    if not sample.is_file():
        raise run.Problem(f"{sample} is missing, `make data` writes it")
    schema = Path(folder) / "open_bandit"
    schema.mkdir(exist_ok=True)
    single = schema / "impressions_random.parquet"
    if not single.exists():
        shutil.copy(sample, single)
    table = schema / name
    table.mkdir()
    for copy in range(copies):
        os.link(single, table / f"{copy}.parquet")
    return table


def train(server, model):
    """The model that the benchmarks score with: an ensemble of the default size, on the impressions of the sample."""
    query = f"SELECT {FEATURES}, click FROM open_bandit.impressions_random"
    server.rows(f"SELECT * FROM finetune(model => '{model}', label => 'click', epochs => 1, seed => 7, query => $${query}$$)")


def export(binary, model, state, to):
    """Writes `to`/model.onnx and `to`/signature.json."""
    command = [binary, "models", "export", model, "--state", str(state), "--to", str(to)]
    if subprocess.run(command, env=run.with_runtime(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise run.Problem(f"`{' '.join(command)}` failed (its reason is above)")
