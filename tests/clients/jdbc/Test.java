/* pgjdbc: what DatabaseMetaData asks of the catalog, prepared statements on both sides of the threshold where they become binary,
 * rows fetched in parts, a time limit, batches, arrays, savepoints and COPY. */

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.sql.*;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Test {
    static String rows(ResultSet rows, String... columns) throws SQLException {
        List<String> all = new ArrayList<>();
        while (rows.next()) {
            List<String> row = new ArrayList<>();
            for (String column : columns) row.add(String.valueOf(rows.getObject(column)));
            all.add(row.toString());
        }
        rows.close();
        return all.toString();
    }

    static String state(String sql, Connection connection) {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
            return "none";
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    public static void main(String[] arguments) throws Exception {
        URI url = new URI(arguments[0]);
        String address = "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath();
        Properties properties = new Properties();
        properties.setProperty("user", url.getUserInfo());
        properties.setProperty("ApplicationName", "jdbc");
        try (Connection connection = DriverManager.getConnection(address, properties)) {
            metadata(connection);
            statements(connection);
            transactions(connection);
        }
    }

    static void metadata(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE people (id bigint, name text, price numeric(10,2), at timestamp, ok boolean, tags text[])");
            statement.execute("CREATE VIEW names AS SELECT name FROM people");
            statement.execute("COMMENT ON TABLE people IS 'who buys'");
            statement.execute("COMMENT ON COLUMN people.id IS 'the key'");
        }
        DatabaseMetaData data = connection.getMetaData();
        System.out.println("product " + data.getDatabaseProductName() + " " + data.getUserName());
        System.out.println("catalogs " + rows(data.getCatalogs(), "TABLE_CAT").contains("stratagem"));
        System.out.println("schemas " + rows(data.getSchemas(null, "work"), "TABLE_SCHEM"));
        String[] kinds = {"TABLE", "VIEW"};
        System.out.println("tables " + rows(data.getTables(null, "work", "%", kinds), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS"));
        System.out.println("kinds " + rows(data.getTableTypes(), "TABLE_TYPE").contains("VIEW"));
        System.out.println("columns " + rows(data.getColumns(null, "work", "people", "%"),
            "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "NULLABLE", "REMARKS", "ORDINAL_POSITION"));
        System.out.println("keys " + rows(data.getPrimaryKeys(null, "work", "people"), "COLUMN_NAME"));
        System.out.println("imported " + rows(data.getImportedKeys(null, "work", "people"), "FKCOLUMN_NAME"));
        System.out.println("exported " + rows(data.getExportedKeys(null, "work", "people"), "FKCOLUMN_NAME"));
        System.out.println("crossed " + rows(data.getCrossReference(null, "work", "people", null, "work", "names"), "FKCOLUMN_NAME"));
        System.out.println("indexes " + rows(data.getIndexInfo(null, "work", "people", false, false), "INDEX_NAME"));
        System.out.println("row " + rows(data.getBestRowIdentifier(null, "work", "people", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME"));
        System.out.println("functions " + rows(data.getFunctions(null, "pg_catalog", "upper"), "FUNCTION_SCHEM", "FUNCTION_NAME"));
        System.out.println("arguments " + rows(data.getFunctionColumns(null, "pg_catalog", "initcap", "%"), "COLUMN_NAME", "COLUMN_TYPE", "TYPE_NAME"));
        System.out.println("procedures " + rows(data.getProcedures(null, "work", "%"), "PROCEDURE_NAME"));
        System.out.println("types " + rows(data.getTypeInfo(), "TYPE_NAME").contains("int8"));
        System.out.println("defined " + rows(data.getUDTs(null, "work", "nothing%", null), "TYPE_NAME"));
        data.getTablePrivileges(null, "work", "people").close();
        data.getColumnPrivileges(null, "work", "people", "%").close();
        data.getClientInfoProperties().close();
        System.out.println("words " + data.getSQLKeywords().contains("analyse"));
        System.out.println("longest " + data.getMaxColumnNameLength());
    }

    static void statements(Connection connection) throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)")) {
            for (int n = 0; n < 100; n++) {
                insert.setLong(1, n);
                insert.setString(2, n % 10 == 0 ? null : "n" + n);
                insert.setBigDecimal(3, new BigDecimal(n).movePointLeft(1));
                insert.setTimestamp(4, Timestamp.valueOf("2024-02-29 12:00:00"));
                insert.setBoolean(5, n % 2 == 0);
                insert.setArray(6, connection.createArrayOf("text", new String[] {"a", "b " + n}));
                insert.addBatch();
            }
            System.out.println("batch " + insert.executeBatch().length);
        }
        // the driver asks for binary once it has run a statement five times
        try (PreparedStatement select = connection.prepareStatement("SELECT id, name, price, at, ok, tags, ? + 1 AS more FROM people WHERE id = ?")) {
            for (int n = 0; n < 7; n++) {
                select.setInt(1, n);
                select.setLong(2, n);
                try (ResultSet rows = select.executeQuery()) {
                    rows.next();
                    System.out.println("row " + rows.getLong(1) + " " + rows.getString(2) + " " + rows.getBigDecimal(3) + " " + rows.getTimestamp(4)
                        + " " + rows.getBoolean(5) + " " + Arrays.toString((Object[]) rows.getArray(6).getArray()) + " " + rows.getInt(7));
                }
            }
            ResultSetMetaData about = select.getMetaData();
            List<String> types = new ArrayList<>();
            for (int n = 1; n <= about.getColumnCount(); n++) types.add(about.getColumnName(n) + " " + about.getColumnTypeName(n) + " " + about.getPrecision(n));
            System.out.println("about " + types);
            System.out.println("parameters " + select.getParameterMetaData().getParameterCount() + " " + select.getParameterMetaData().getParameterTypeName(2));
        }
        try (Statement statement = connection.createStatement()) {
            try (ResultSet rows = statement.executeQuery("SELECT 1, 2147483648, 1.5::float8, 'x', NULL, DATE '2024-02-29'")) {
                rows.next();
                System.out.println("values " + rows.getObject(1).getClass().getSimpleName() + " " + rows.getObject(2).getClass().getSimpleName()
                    + " " + rows.getDouble(3) + " " + rows.getString(4) + " " + rows.getObject(5) + " " + rows.getDate(6));
            }
            statement.setMaxRows(3);
            try (ResultSet rows = statement.executeQuery("SELECT id FROM people ORDER BY id")) {
                System.out.println("most " + rows(rows, "id"));
            }
            statement.setMaxRows(0);
            statement.setQueryTimeout(1);
            try {
                statement.execute("SELECT pg_sleep(60)");
            } catch (SQLException error) {
                System.out.println("late " + error.getSQLState());
            }
            statement.setQueryTimeout(0);
            System.out.println("several " + statement.execute("SELECT 1; SELECT 2") + " " + statement.getMoreResults());
            try (ResultSet rows = statement.executeQuery("SELECT * FROM people WHERE false")) {
                System.out.println("none " + rows.next() + " " + rows.getMetaData().getColumnCount());
            }
        }
        for (String sql : new String[] {"SELEC", "SELECT * FROM nowhere", "SELECT 1 / 0", "SELECT 2147483647 + 1"}) System.out.println("error " + state(sql, connection));
        PGConnection copying = connection.unwrap(PGConnection.class);
        System.out.println("copied " + copying.getCopyAPI().copyIn("COPY people (id, name) FROM STDIN WITH (FORMAT csv)", new StringReader("1000,x\n1001,y\n")));
        StringWriter copied = new StringWriter();
        copying.getCopyAPI().copyOut("COPY (SELECT id, name FROM people WHERE id >= 1000 ORDER BY id) TO STDOUT WITH (FORMAT csv)", copied);
        System.out.println("out " + copied.toString().replace("\n", ";"));
    }

    static void transactions(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement select = connection.prepareStatement("SELECT id FROM people ORDER BY id")) {
            // a portal that is suspended after every ten rows
            select.setFetchSize(10);
            int count = 0;
            try (ResultSet rows = select.executeQuery()) {
                while (rows.next()) count++;
            }
            System.out.println("fetched " + count);
        }
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM people WHERE id < 50");
            Savepoint savepoint = connection.setSavepoint("here");
            System.out.println("deleted " + statement.executeUpdate("DELETE FROM people"));
            connection.rollback(savepoint);
            try (ResultSet rows = statement.executeQuery("SELECT count(*) AS n FROM people")) {
                System.out.println("left " + rows(rows, "n"));
            }
            connection.rollback();
            connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            connection.setReadOnly(true);
            System.out.println("read only " + state("DELETE FROM people", connection));
            connection.rollback();
            connection.setReadOnly(false);
            connection.setAutoCommit(true);
            System.out.println("isolation " + connection.getTransactionIsolation() + " " + connection.getSchema() + " " + connection.isValid(5));
            statement.execute("LISTEN news");
            statement.execute("NOTIFY news, 'rain'");
            System.out.println("heard " + connection.unwrap(PGConnection.class).getNotifications()[0].getParameter());
            statement.execute("DROP VIEW names");
            statement.execute("DROP TABLE people");
        }
    }
}
