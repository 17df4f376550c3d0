//! Eigenvectors of a symmetric matrix: Householder tridiagonalisation, then the QL algorithm with implicit shifts (Bowdler, Martin, Reinsch and
//! Wilkinson 1968; `tred2` and `tql2` of EISPACK).

/// A square matrix by columns.
struct Matrix {
    order: usize,
    columns: Vec<f64>,
}

impl std::ops::Index<(usize, usize)> for Matrix {
    type Output = f64;

    fn index(&self, (row, column): (usize, usize)) -> &f64 {
        &self.columns[column * self.order + row]
    }
}

impl std::ops::IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut f64 {
        &mut self.columns[column * self.order + row]
    }
}

/// The eigenvalues of a symmetric matrix of finite numbers with their vectors of length 1, the largest first.
pub(super) fn eigen(matrix: Vec<f64>, order: usize) -> Vec<(f64, Vec<f64>)> {
    if order == 0 {
        return vec![];
    }
    let mut vectors = Matrix { order, columns: matrix };
    let (mut diagonal, mut beside) = tridiagonal(&mut vectors);
    ql(&mut vectors, &mut diagonal, &mut beside);
    let columns = vectors.columns.chunks(order).map(<[f64]>::to_vec);
    let mut pairs: Vec<(f64, Vec<f64>)> = diagonal.into_iter().zip(columns).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs
}

/// Turns the matrix into the rotation that makes it tridiagonal, and returns the diagonal and the numbers beside it.
fn tridiagonal(v: &mut Matrix) -> (Vec<f64>, Vec<f64>) {
    let n = v.order;
    let mut e = vec![0.0; n];
    let mut d: Vec<f64> = (0..n).map(|j| v[(n - 1, j)]).collect();
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[(i - 1, j)];
                v[(i, j)] = 0.0;
                v[(j, i)] = 0.0;
            }
        } else {
            for x in &mut d[..i] {
                *x /= scale;
                h += *x * *x;
            }
            let f = d[i - 1];
            let g = -h.sqrt().copysign(f);
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[(j, i)] = f;
                let mut g = e[j] + v[(j, j)] * f;
                for k in j + 1..i {
                    g += v[(k, j)] * d[k];
                    e[k] += v[(k, j)] * f;
                }
                e[j] = g;
            }
            let mut f = 0.0;
            for j in 0..i {
                e[j] /= h;
                f += e[j] * d[j];
            }
            let half = f / (h + h);
            for j in 0..i {
                e[j] -= half * d[j];
            }
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                for k in j..i {
                    v[(k, j)] -= f * e[k] + g * d[k];
                }
                d[j] = v[(i - 1, j)];
                v[(i, j)] = 0.0;
            }
        }
        d[i] = h;
    }
    for i in 0..n - 1 {
        v[(n - 1, i)] = v[(i, i)];
        v[(i, i)] = 1.0;
        let h = d[i + 1];
        if h != 0.0 {
            for k in 0..=i {
                d[k] = v[(k, i + 1)] / h;
            }
            for j in 0..=i {
                let g: f64 = (0..=i).map(|k| v[(k, i + 1)] * v[(k, j)]).sum();
                for k in 0..=i {
                    v[(k, j)] -= g * d[k];
                }
            }
        }
        for k in 0..=i {
            v[(k, i + 1)] = 0.0;
        }
    }
    for j in 0..n {
        d[j] = v[(n - 1, j)];
        v[(n - 1, j)] = 0.0;
    }
    v[(n - 1, n - 1)] = 1.0;
    (d, e)
}

/// Steps after which an eigenvalue is taken as it is.
const STEPS: usize = 64;

/// Turns the tridiagonal matrix into its eigenvalues, in place of the diagonal, and the rotation into the eigenvectors.
fn ql(v: &mut Matrix, d: &mut [f64], e: &mut [f64]) {
    let n = v.order;
    e.rotate_left(1);
    e[n - 1] = 0.0;
    let (mut shift, mut largest) = (0.0, 0.0_f64);
    for l in 0..n {
        largest = largest.max(d[l].abs() + e[l].abs());
        let small = |x: f64| x.abs() <= f64::EPSILON * largest;
        let m = (l..n - 1).find(|m| small(e[*m])).unwrap_or(n - 1);
        // A handful of steps is enough; the bound is for numbers that are none.
        for _ in 0..if m > l { STEPS } else { 0 } {
            let g = d[l];
            let p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = p.hypot(1.0).copysign(p);
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let beside = d[l + 1];
            let h = g - d[l];
            d[l + 2..].iter_mut().for_each(|x| *x -= h);
            shift += h;
            let (mut p, next) = (d[m], e[l + 1]);
            let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
            let (mut s, mut s2) = (0.0, 0.0);
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let g = c * e[i];
                let h = c * p;
                let r = p.hypot(e[i]);
                e[i + 1] = s * r;
                s = e[i] / r;
                c = p / r;
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (left, right) = v.columns[i * n..(i + 2) * n].split_at_mut(n);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
            p = -s * s2 * c3 * next * e[l] / beside;
            e[l] = s * p;
            d[l] = c * p;
            if small(e[l]) {
                break;
            }
        }
        d[l] += shift;
        e[l] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn check(matrix: &[f64], order: usize) {
        let size = matrix.iter().fold(1e-300, |size: f64, x| size.max(x.abs()));
        let pairs = eigen(matrix.to_vec(), order);
        assert_eq!(pairs.len(), order);
        for (value, vector) in &pairs {
            for row in 0..order {
                let product: f64 = (0..order).map(|column| matrix[row * order + column] * vector[column]).sum();
                assert!((product - value * vector[row]).abs() < 1e-12 * size * order as f64, "{order}: {value}");
            }
        }
        for (a, (_, left)) in pairs.iter().enumerate() {
            for (b, (_, right)) in pairs.iter().enumerate() {
                let dot: f64 = left.iter().zip(right).map(|(x, y)| x * y).sum();
                assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-12 * order as f64);
            }
        }
        assert!(pairs.windows(2).all(|pair| pair[0].0 >= pair[1].0));
    }

    #[test]
    fn vectors_are_orthonormal_and_solve_the_equation() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for order in [1, 2, 3, 8, 40, 120] {
            let mut matrix = vec![0.0; order * order];
            for row in 0..order {
                for column in 0..=row {
                    let x = rng.random::<f64>() - 0.5;
                    matrix[row * order + column] = x;
                    matrix[column * order + row] = x;
                }
            }
            check(&matrix, order);
        }
    }

    #[test]
    fn degenerate_matrices_are_solved_too() {
        check(&[0.0; 16], 4);
        check(&[1.0; 25], 5);
        check(&[3.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, -1.0], 3);
        assert!(eigen(vec![], 0).is_empty());
    }
}
